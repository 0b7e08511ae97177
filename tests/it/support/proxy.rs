//! A TCP way to the test cluster that can be cut, mended, and turned into a black hole.

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections are ended, new ones refused.
    Cut,
    /// What is under way stays open and carries nothing; new connections work.
    BlackHole,
    /// What clients send arrives, and nothing comes back.
    Mute,
}

/// See the module.
pub struct Proxy {
    port: u16,
    way: Arc<watch::Sender<Way>>,
}

impl Proxy {
    /// In front of the Unix socket of these options.
    pub async fn to_socket(options: &PgConnectOptions) -> Proxy {
        let folder = options.get_socket().expect("a socket").clone();
        let socket: PathBuf = folder.join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let way = Arc::new(watch::Sender::new(Way::Open));
        let accepting = way.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *accepting.borrow() == Way::Cut {
                    continue;
                }
                let server = UnixStream::connect(&socket).await.expect("the cluster");
                tokio::spawn(carry(client, server, accepting.subscribe()));
            }
        });
        Proxy { port, way }
    }

    /// The same options by way of the proxy.
    pub fn options(&self, options: PgConnectOptions) -> PgConnectOptions {
        let direct = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .ssl_mode(sqlx::postgres::PgSslMode::Disable)
            .username(options.get_username());
        match options.get_database() {
            Some(database) => direct.database(database),
            None => direct,
        }
    }

    /// Ends all connections and refuses new ones.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.way.send_replace(Way::Open);
    }

    /// Lets no answer through any more.
    pub fn mute(&self) {
        self.way.send_replace(Way::Mute);
    }

    /// For `--database-url`, given that of the database behind.
    pub fn url(&self, url: &str) -> String {
        let name = url.rsplit('/').next().expect("a database");
        let user = url.trim_start_matches("postgres://").split('@').next().expect("a user");
        format!("postgres://{user}@127.0.0.1:{}/{name}", self.port)
    }

    /// Keeps the present connections open and silent.
    pub fn black_hole(&self) {
        self.way.send_replace(Way::BlackHole);
    }
}

async fn carry(mut client: TcpStream, mut server: UnixStream, mut way: watch::Receiver<Way>) {
    way.mark_unchanged();
    let (mut from_client, mut from_server) = ([0; 8192], [0; 8192]);
    loop {
        tokio::select! {
            // What came later than a change of the way must not slip through before it.
            biased;
            changed = way.changed() => match (changed, *way.borrow()) {
                (Err(_), _) | (Ok(()), Way::Cut) => return,
                (Ok(()), Way::Open | Way::Mute) => {}
                // Holds both ends open and reads neither.
                (Ok(()), Way::BlackHole) => break,
            },
            read = client.read(&mut from_client) => match read {
                Ok(1..) => if server.write_all(&from_client[..read.unwrap_or(0)]).await.is_err() { return },
                _ => return,
            },
            read = server.read(&mut from_server) => match read {
                Ok(1..) if *way.borrow() == Way::Mute => {}
                Ok(1..) => if client.write_all(&from_server[..read.unwrap_or(0)]).await.is_err() { return },
                _ => return,
            },
        }
    }
    // Until the test is over.
    let _ = way.wait_for(|way| *way == Way::Cut).await;
}
