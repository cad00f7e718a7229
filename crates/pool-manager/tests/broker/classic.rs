//! Existing clients and node clients, call by call.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::Service;

#[tokio::test]
async fn the_life_of_an_old_client_and_an_old_node() {
    let broker = Service::start().await;
    assert_eq!(broker.get("/").await.1["service"], "sandrun-broker");
    let submitted = broker
        .ok(
            "/submit",
            json!({"code": "print(1)", "interpreter": "python3", "timeout": 60}),
        )
        .await;
    let id = submitted["job_id"].as_str().unwrap().to_owned();
    assert_eq!(submitted, json!({"job_id": id, "status": "pending"}));
    let (status, view) = broker.get(&format!("/status/{id}")).await;
    assert_eq!(status, StatusCode::OK);
    let created = view["created_at"].as_str().unwrap().to_owned();
    assert_eq!((created.len(), &created[10..11]), (19, " "));
    assert_eq!(
        view,
        json!({"job_id": id, "status": "pending", "node_id": null, "created_at": created, "completed_at": null})
    );
    let (status, view) = broker.get(&format!("/results/{id}")).await;
    assert_eq!(
        (status, view),
        (StatusCode::ACCEPTED, json!({"error": "Job not completed"}))
    );

    let node = broker.old_node("http://localhost:8443").await;
    assert_eq!(broker.old_node("http://localhost:8443").await, node);
    assert_ne!(broker.old_node("http://localhost:8444").await, node);
    let alive = broker.ok("/heartbeat", json!({"node_id": node})).await;
    assert_eq!(alive, json!({"status": "ok"}));

    let claimed = broker.ok("/claim", json!({"node_id": node})).await;
    assert_eq!(
        claimed,
        json!({"job": {
            "id": id, "code": "print(1)", "interpreter": "python3", "args": [], "timeout": 60, "attempt": 1
        }})
    );
    let none = broker.ok("/claim", json!({"node_id": node})).await;
    assert_eq!(none, json!({"job": null}));
    let (_, view) = broker.get(&format!("/status/{id}")).await;
    assert_eq!(
        (&view["status"], &view["node_id"]),
        (&json!("assigned"), &json!(node))
    );

    let done = json!({"node_id": node, "job_id": id, "output": "1\n", "error": "", "exit_code": 0});
    assert_eq!(
        broker.ok("/complete", done.clone()).await,
        json!({"status": "ok"})
    );
    let broker = broker.restart().await;
    assert_eq!(broker.ok("/complete", done).await, json!({"status": "ok"}));
    let (status, view) = broker.get(&format!("/results/{id}")).await;
    let expected = json!({"job_id": id, "status": "completed", "output": "1\n", "error": "", "exit_code": 0});
    assert_eq!((status, view), (StatusCode::OK, expected));
    let (_, view) = broker.get(&format!("/status/{id}")).await;
    assert_eq!(
        (&view["status"], view["completed_at"].is_string()),
        (&json!("completed"), true)
    );

    let (_, nodes) = broker.get("/nodes").await;
    let of_node = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["id"] == *node)
        .unwrap();
    assert_eq!(
        (&of_node["jobs_completed"], &of_node["active"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        of_node["capabilities"]["interpreters"],
        json!(["python3", "bash"])
    );
    let (_, health) = broker.get("/health").await;
    let told = (&health["status"], &health["jobs"], &health["active_nodes"]);
    assert_eq!(told, (&json!("healthy"), &json!(0), &json!(2)));
    let checks = health["checks"].as_array().unwrap();
    assert!(checks.iter().all(|it| it["ok"] == true), "{health}");
}

#[tokio::test]
async fn a_program_that_fails_is_a_failed_job_with_its_output() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x", "interpreter": "bash"})).await;
    let node = broker.old_node("http://a").await;
    broker.ok("/claim", json!({"node_id": node})).await;
    let done = json!({"node_id": node, "job_id": id, "output": "o", "error": "e", "exit_code": 7});
    broker.ok("/complete", done).await;
    let (status, view) = broker.get(&format!("/results/{id}")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (
            &view["status"],
            &view["output"],
            &view["error"],
            &view["exit_code"]
        ),
        (&json!("failed"), &json!("o"), &json!("e"), &json!(7))
    );
}

#[tokio::test]
async fn bad_bodies_are_refused_and_leave_nothing() {
    let broker = Service::start().await;
    let node = broker.old_node("http://a").await;
    for (path, body) in [
        ("/submit", json!({})),
        ("/submit", json!([])),
        ("/submit", json!({"code": 1})),
        ("/submit", json!({"code": "x", "interpreter": "cobol"})),
        ("/submit", json!({"files": {"main.py": "no base64!"}})),
        (
            "/submit",
            json!({"files": {"main.py": "", "a": "", "a/b": ""}, "manifest": {}}),
        ),
        ("/submit", json!({"code": "x", "args": ["a\u{0}b"]})),
        ("/submit", json!({"code": "x", "args": vec![""; 5_000]})),
        ("/submit", json!({"code": "x", "requirements": []})),
        ("/submit", json!({"code": "x", "after": [["0123456789abcdef"]]})),
        ("/register", json!({})),
        ("/register", json!({"endpoint": ""})),
        ("/register", json!({"endpoint": "http://x", "capabilities": 1})),
        ("/heartbeat", json!({})),
        ("/claim", json!("x")),
        ("/claim?wait=-1", json!({"node_id": node})),
        ("/claim?wait=x", json!({"node_id": node})),
        ("/complete", json!({"node_id": node})),
        ("/complete", json!({"node_id": node, "job_id": "x"})),
        ("/v1/jobs/batch", json!({})),
        ("/submit", json!({"code": "x", "priority": -1})),
        ("/submit", json!({"code": "x", "priority": 2.5})),
        ("/submit", json!({"code": "x", "requirements": {"cores": 1}})),
        ("/submit", json!({"code": "x", "after": {}})),
        ("/submit", json!({"code": "x", "after": ["0123456789abcdef"]})),
        ("/submit", json!({"code": "x", "after": [{}]})),
        ("/submit", json!({"code": "x", "after": [{"job": 1}]})),
        ("/submit", json!({"code": "x", "after": [{"job": ""}]})),
        ("/submit", json!({"code": "x", "after": [{"content": "12"}]})),
        (
            "/submit",
            json!({"code": "x", "after": [{"job": "0123456789abcdef", "content": "0".repeat(64)}]}),
        ),
        (
            "/submit",
            json!({"code": "x", "after": [{"job": "0123456789abcdef", "onto": "x"}]}),
        ),
        (
            "/heartbeat",
            json!({"node_id": node, "claims_answered_up_to": -1}),
        ),
        ("/claim", json!({"node_id": node, "max": -1})),
        (
            "/complete",
            json!({"node_id": node, "job_id": "x", "exit_code": 0.5}),
        ),
    ] {
        let (status, answer) = broker.post(path, body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}: {answer}");
        assert!(answer["error"].is_string(), "{path} {body}: {answer}");
    }
    let long = json!({"code": "x".repeat(17 << 20)});
    let (status, answer) = broker.post("/submit", long).await;
    assert_eq!(
        (status, answer["error"].is_string()),
        (StatusCode::PAYLOAD_TOO_LARGE, true)
    );
    for path in ["/submit", "/register", "/heartbeat", "/claim", "/complete"] {
        let answer = broker
            .http
            .post(broker.url(path))
            .body("{not json")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.json::<Value>().await.unwrap()["error"].is_string());
    }
    assert_eq!(broker.get("/v1/jobs").await.1, json!({"jobs": [], "next": null}));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let broker = Service::start().await;
    let node = broker.old_node("http://a").await;
    let nobody = "0123456789abcdef";
    for path in ["status", "results", "v1/jobs"] {
        for id in [nobody, "x", "..%2fx"] {
            let (status, answer) = broker.get(&format!("/{path}/{id}")).await;
            assert_eq!(
                (status, answer["error"].is_string()),
                (StatusCode::NOT_FOUND, true),
                "{path}/{id}"
            );
        }
    }
    for (path, body) in [
        ("/heartbeat", json!({"node_id": "x"})),
        ("/claim", json!({"node_id": "x"})),
        (
            "/complete",
            json!({"node_id": node, "job_id": nobody, "exit_code": 0}),
        ),
        ("/v1/nodes/x/drain", json!({})),
        ("/nowhere", json!({})),
    ] {
        let (status, answer) = broker.post(path, body).await;
        assert_eq!(
            (status, answer["error"].is_string()),
            (StatusCode::NOT_FOUND, true),
            "{path}"
        );
    }
    let (status, _) = broker
        .send(Method::DELETE, &format!("/v1/jobs/{nobody}"), None)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(broker.get("/submit").await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn pages_of_other_origins_may_ask() {
    let broker = Service::start().await;
    let origin = ("origin", "https://elsewhere.example");
    let answer = broker
        .http
        .get(broker.url("/health"))
        .header(origin.0, origin.1)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let asked = broker
        .http
        .request(Method::OPTIONS, broker.url("/submit"))
        .header(origin.0, origin.1)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-client")
        .send()
        .await
        .unwrap();
    assert!(asked.status().is_success());
    assert_eq!(asked.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn frequent_calls_go_around_the_router_and_answer_as_all_others() {
    const ROUTED: &str = "/register";
    let broker = Service::start().await;
    let ask = async |path: &str, body: String| {
        let sent = broker
            .http
            .post(broker.url(path))
            .body(body)
            .send()
            .await
            .unwrap();
        let mut headers = sent.headers().clone();
        for own in ["content-length", "date"] {
            headers.remove(own);
        }
        (sent.status(), headers, sent.text().await.unwrap())
    };
    let (broken, long) = ("{".to_owned(), " ".repeat((1 << 20) + 1));
    let expected = ask(ROUTED, broken.clone()).await;
    assert_eq!(expected.0, StatusCode::BAD_REQUEST);
    for path in ["/claim", "/complete", "/heartbeat", "/submit"] {
        assert_eq!(ask(path, broken.clone()).await, expected, "{path}");
    }
    let expected = ask(ROUTED, long.clone()).await;
    assert_eq!(expected.0, StatusCode::PAYLOAD_TOO_LARGE);
    for path in ["/claim", "/heartbeat"] {
        assert_eq!(ask(path, long.clone()).await, expected, "{path}");
    }
    let metrics = broker.http.get(broker.url("/metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for (path, status) in [("/claim", 413), ("/complete", 400), ("/submit", 400)] {
        let labels = format!("{{method=\"POST\",route=\"{path}\",status=\"{status}\"}} 1");
        let line = format!("sandrun_http_request_seconds_count{labels}");
        assert!(metrics.lines().any(|it| it == line), "{line}");
    }
}

#[tokio::test]
async fn every_call_of_the_document_is_there() {
    let broker = Service::start().await;
    let (_, document) = broker.get("/openapi.json").await;
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let path = path.replace("{attempt}", "1").replace(['{', '}'], "");
            let method: Method = method.to_uppercase().parse().unwrap();
            let (status, answer) = broker.send(method.clone(), &path, None).await;
            let known = call["responses"].get(status.as_str()).is_some();
            assert!(known, "{method} {path}: {status} {answer}");
            let nothing = answer["error"]
                .as_str()
                .is_some_and(|it| it.contains("no such call"));
            assert!(!nothing, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_password_in_a_nodes_address_is_told_to_nobody() {
    let broker = Service::start().await;
    let node = broker.node("http://ann:secret@a:1").await;
    assert_eq!(broker.node("http://a:1").await, node);
    for path in ["/nodes", "/v1/nodes"] {
        let listed = broker.get(path).await.1;
        assert_eq!(listed["nodes"][0]["endpoint"], "http://a:1", "{listed}");
    }
}

#[tokio::test]
async fn a_form_is_one_however_its_type_is_written() {
    let broker = Service::start().await;
    let body = "--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"main.py\"\r\n\r\nprint(1)\r\n--b--\r\n";
    let sent = broker.http.post(broker.url("/submit")).body(body);
    let sent = sent.header("Content-Type", "Multipart/Form-Data; boundary=b");
    let answer = sent.send().await.unwrap();
    assert_eq!(
        answer.status(),
        StatusCode::OK,
        "{}",
        answer.text().await.unwrap()
    );
}

#[tokio::test]
async fn an_archive_is_one_however_its_name_is_written() {
    let broker = Service::start().await;
    for name in ["p.zip", "P.ZIP", "P.Tar.Gz"] {
        let manifest = ("manifest", r#"{"entrypoint": "main.py"}"#);
        let (status, answer) = broker.submit_form(&[(name, b"PK")], &[manifest]).await;
        assert_eq!(status, StatusCode::OK, "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_job_below_one_that_failed_has_failed() {
    let broker = Service::start().await;
    let parent = broker.submit(json!({"code": "x"})).await;
    let cancelled = broker
        .send(reqwest::Method::DELETE, &format!("/v1/jobs/{parent}"), None)
        .await;
    assert_eq!(cancelled.0, StatusCode::OK, "{}", cancelled.1);
    let child = json!({"code": "y", "after": [{"job": parent}]});
    let answer = broker.ok("/submit", child).await;
    assert_eq!(answer["status"], "failed", "{answer}");
    let id = answer["job_id"].as_str().unwrap();
    assert_eq!(broker.get(&format!("/status/{id}")).await.1["status"], "failed");
}
