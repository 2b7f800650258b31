//! Answers as both generations give them, and everything that is none.

use super::{
    Generation, GuestAgentError, Method, Response, StreamEnd,
    guest_agent::{fuzz_guest_agent_answer, granted, read_information, read_quote},
    http::{HttpError, MAX_BODY_BYTES, MAX_RESPONSE_BYTES},
};

fn read(bytes: &[u8]) -> Result<Option<Response>, HttpError> {
    Response::read(bytes, StreamEnd::Open)
}

fn body(bytes: &[u8]) -> Vec<u8> {
    read(bytes).expect("a response").expect("a whole one").body
}

#[test]
fn requests_name_their_method_and_carry_all_bytes() {
    let text = |bytes: Result<Vec<u8>, _>| String::from_utf8(bytes.expect("a request")).unwrap();
    let data: [u8; 64] = std::array::from_fn(|at| u8::try_from(at).expect("small"));
    let hex = hex::encode(data);
    let request = text(Generation::Current.quote_request(Method::Quote, &data));
    assert!(request.starts_with("POST /GetQuote HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(&format!("\r\n\r\n{{\"report_data\":\"{hex}\"}}")), "{request}");
    assert!(request.contains("Content-Length: 146\r\n") && request.contains("Connection: close"));
    let request = text(Generation::Tappd.quote_request(Method::Quote, &data));
    assert!(request.starts_with("POST /prpc/Tappd.RawQuote HTTP/1.1\r\n"), "{request}");
    let request = text(Generation::Tappd.quote_request(Method::HashedQuote, &data));
    assert!(request.contains(r#""hash_algorithm":"raw","prefix":"""#), "{request}");
    let request = text(Generation::Current.event_request("job-start", &[0xab]));
    assert!(request.ends_with(r#"{"event":"job-start","payload":"ab"}"#), "{request}");
    assert!(text(Generation::Tappd.info_request()).ends_with("\r\n\r\n{}"));
    for missing in [
        Generation::Tappd.event_request("job-start", &[]),
        Generation::Tappd.event_probe(),
        Generation::Current.quote_request(Method::HashedQuote, &data),
    ] {
        assert!(matches!(missing, Err(GuestAgentError::Missing(_))));
    }
}

#[test]
fn a_response_is_read_however_its_end_is_told() {
    let length = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{ \n}";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\n{\r\n3;x=y\r\n \n}\r\n0\r\n\r\n";
    for response in [&length[..], chunked] {
        assert_eq!(body(response), b"{ \n}");
        for cut in 0..response.len() {
            assert_eq!(read(&response[..cut]), Ok(None), "{cut}");
            let ended = Response::read(&response[..cut], StreamEnd::Reached);
            assert_eq!(ended, Err(HttpError::Truncated), "{cut}");
        }
        assert_eq!(read(&[response, b" "].concat()), Err(HttpError::Trailing));
    }
    let open = b"HTTP/1.0 200 OK\r\n\r\n{}";
    assert_eq!(read(open), Ok(None));
    let ended = Response::read(open, StreamEnd::Reached).expect("a response").expect("whole");
    assert_eq!(ended.body, b"{}");
    assert_eq!(body(b"HTTP/1.1 204 No Content\r\n\r\n"), b"");
}

#[test]
fn what_is_no_response_is_refused() {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
    let many = (0..65).map(|at| format!("a{at}: b")).collect::<Vec<_>>().join("\r\n");
    for bytes in [
        "garbage\r\n\r\n".to_owned(),
        "HTTP/2 200\r\n\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        "HTTP/1.1 600 X\r\n\r\n".to_owned(),
        head("content-length: -1"),
        head("content-length: +1"),
        head("content-length: "),
        head("content-length: 1\r\ncontent-length: 1"),
        head("content-length: 1\r\ntransfer-encoding: chunked"),
        head("transfer-encoding: gzip"),
        head("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        head(&many),
        head(&format!("a: {}", "b".repeat(16 * 1024))),
    ] {
        let error = read(bytes.as_bytes()).expect_err(&bytes);
        assert!(matches!(error, HttpError::Head(_)), "{bytes:.60}: {error}");
    }
    for chunks in ["x\r\n", "1\r\nab\r\n", "-1\r\n", &"0".repeat(300)] {
        let bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(read(bytes.as_bytes()), Err(HttpError::Chunk), "{chunks:.20}");
    }
}

#[test]
fn nothing_is_longer_than_four_mebibytes() {
    let over = MAX_BODY_BYTES + 1;
    for bytes in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {over}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", "9".repeat(40)),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{over:x}\r\n"),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(),
    ] {
        assert_eq!(read(bytes.as_bytes()), Err(HttpError::TooLong), "{bytes}");
    }
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(endless.len() + over, b' ');
    assert_eq!(read(&endless), Err(HttpError::TooLong));
    assert_eq!(read(&vec![b' '; MAX_RESPONSE_BYTES + 1]), Err(HttpError::TooLong));
}

#[test]
fn statuses_and_reasons_are_told_apart() {
    let answer = |status, body: &str| {
        granted(Method::EmitEvent, Response { status, body: body.as_bytes().to_vec() })
    };
    assert_eq!(answer(200, "null"), Ok(b"null".to_vec()));
    for status in [404, 405, 501] {
        assert_eq!(answer(status, "{}"), Err(GuestAgentError::Missing(Method::EmitEvent)));
    }
    let refused =
        |status, reason: &str| Err(GuestAgentError::Refused { status, reason: reason.to_owned() });
    assert_eq!(answer(400, r#"{"error":"bad\u001b[2J name"}"#), refused(400, "bad[2J name"));
    assert_eq!(answer(500, "<html>"), refused(500, ""));
    assert_eq!(answer(302, ""), refused(302, ""));
    let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(1000));
    assert_eq!(answer(400, &long), refused(400, &"x".repeat(200)));
}

#[test]
fn answers_of_both_generations_are_read() {
    let current =
        br#"{"quote":"0400","event_log":"[{\"imr\":0}]","report_data":"00","vm_config":"{}"}"#;
    let tappd =
        br#"{"quote":"0x0400","event_log":"[{\"imr\":0}]","hash_algorithm":"raw","prefix":""}"#;
    for answer in [&current[..], tappd] {
        let report = read_quote(answer).expect("a report");
        assert_eq!((report.quote(), report.event_log()), (&[4, 0][..], &br#"[{"imr":0}]"#[..]));
    }
    for bad in ["null", "", "{\"quote\":\"04\"}", "{\"quote\":\"4\",\"event_log\":\"\"}"] {
        assert!(matches!(read_quote(bad.as_bytes()), Err(GuestAgentError::Answer(_))), "{bad}");
    }
    let info = read_information(br#"{"app_id":"ab","tcb_info":"{}","more":[1]}"#).expect("info");
    assert_eq!((info.app_id.as_str(), info.app_name.as_str()), ("ab", ""));
    assert!(read_information(b"3").is_err());
}

/// Cut anywhere, one byte changed anywhere: a refusal or a response, never a panic.
#[test]
fn hostile_connections_are_survived() {
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n26\r\n{\"quote\":\"0400\",\"event_log\":\"[]\"}    \n\r\n0\r\n\r\n";
    fuzz_guest_agent_answer(response);
    for at in 0..response.len() {
        fuzz_guest_agent_answer(&response[..at]);
        for byte in [0, b'\r', b'\n', b'9', 0xff] {
            let mut changed = response.to_vec();
            changed[at] = byte;
            fuzz_guest_agent_answer(&changed);
        }
    }
}
