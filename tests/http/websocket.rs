//! WebSocket through the real binary, by a test suite that others have written.

use super::support::{PythonServer, Wire as _, program_over, python};

#[test]
fn autobahn_cases_score_what_they_score_directly() {
    let echo = PythonServer::start("websocket_echo.py");
    let front = program_over(&[echo.address], "");
    let said = python("autobahn.py", format!("{}\n{}\n", echo.address, front.at()).as_bytes());
    println!("{said}");
    let cases: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert!(cases >= 240, "{said}");
}
