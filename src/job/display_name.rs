pub fn of_payload(_payload: &serde_json::Value) -> Option<String> {
    None
}
