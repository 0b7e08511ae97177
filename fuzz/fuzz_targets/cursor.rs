//! A cursor that is accepted is exactly the one that this server makes of what it read from it.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jobql::graphql::cursor::CursorSeal;
use jobql::job::viewer::Viewer;
use jobql::store::list::JobFilter;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    let seal = CursorSeal::of(&Viewer::Operator, &JobFilter::default());
    // As it comes, and with the seal that no guess would hit.
    if let Ok(text) = std::str::from_utf8(data) {
        look(&seal, text);
    }
    let own = URL_SAFE_NO_PAD.decode(seal.cursor(Uuid::nil())).unwrap();
    let sealed = [data, &own[17..]].concat();
    look(&seal, &URL_SAFE_NO_PAD.encode(sealed));
});

fn look(seal: &CursorSeal, text: &str) {
    if let Ok(id) = seal.job_id("after", text) {
        assert_eq!(seal.cursor(id), text);
    }
    if let Ok(turn) = seal.turn("after", text) {
        assert_eq!(seal.turn_cursor(turn), text);
    }
    if let Ok(place) = seal.line("after", text) {
        assert_eq!(seal.line_cursor(place), text);
    }
}
