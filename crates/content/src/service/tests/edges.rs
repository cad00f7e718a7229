//! The edges of the service: the gateway, archives, browsers, and a store that was damaged.

use super::*;

#[tokio::test]
async fn the_gateway_serves_files_and_listings() {
    let served = served().await;
    let tree = served.dir.path().join("tree");
    write_tree(
        &tree,
        &[
            ("p/a.svg", b"<svg/>", false),
            ("p/<b>.txt", b"hello", false),
            ("stdout", b"out\n", false),
        ],
    );
    let id = served
        .client()
        .add(&pack_directory(&tree, &Limits::default()).unwrap())
        .await
        .unwrap();
    let svg = served.get(&format!("/ipfs/{id}/p/a.svg")).await;
    let header = |answer: &Answer, name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (svg.status().as_u16(), header(&svg, "content-type").as_str()),
        (200, "image/svg+xml")
    );
    assert_eq!(
        (
            header(&svg, "content-length").as_str(),
            header(&svg, "x-content-type-options").as_str()
        ),
        ("6", "nosniff")
    );
    assert!(header(&svg, "content-security-policy").starts_with("sandbox"));
    let tag = header(&svg, "etag");
    let url = format!("{}/ipfs/{id}/p/a.svg", served.url);
    let cached = served
        .http
        .get(url)
        .header("if-none-match", tag)
        .send()
        .await
        .unwrap();
    assert_eq!(cached.status(), 304);
    assert_eq!(
        served
            .get(&format!("/ipfs/{id}/p/%3Cb%3E.txt"))
            .await
            .text()
            .await
            .unwrap(),
        "hello"
    );
    for path in [format!("/ipfs/{id}"), format!("/ipfs/{id}/")] {
        assert!(served.get(&path).await.text().await.unwrap().contains("stdout"));
    }
    let html = served.get(&format!("/ipfs/{id}/p")).await.text().await.unwrap();
    assert!(html.contains("&lt;b&gt;.txt") && !html.contains("<b>"), "{html}");
    let listed = served
        .get(&format!("/ipfs/{id}/p?format=json"))
        .await
        .json::<Value>()
        .await
        .unwrap();
    assert_eq!(listed["entries"][1]["name"], "a.svg");
    assert_eq!(served.get(&format!("/ipfs/{id}/none")).await.status(), 404);
    assert_eq!(served.get(&format!("/ipfs/{GONE}")).await.status(), 404);
    assert_eq!(served.get("/ipfs/hello").await.status(), 400);
}

#[tokio::test]
async fn browsers_and_get_are_refused() {
    let served = served().await;
    let version = format!("{}/api/v0/version", served.url);
    assert_eq!(served.http.get(&version).send().await.unwrap().status(), 405);
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", served.url.as_str()),
        ("referer", "http://evil.example/x"),
        ("user-agent", "Mozilla/5.0"),
        ("host", "evil.example"),
    ] {
        let refused = served
            .http
            .post(&version)
            .header(name, value)
            .send()
            .await
            .unwrap();
        assert_eq!(refused.status(), 403, "{name}: {value}");
    }
    assert_eq!(served.http.post(&version).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn get_is_a_tar_of_the_tree() {
    let served = served().await;
    let tree = served.dir.path().join("tree");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    write_tree(
        &tree,
        &[
            ("a", &pattern(300_000), false),
            ("bin/run", b"#!", true),
            (&long, b"deep", false),
        ],
    );
    let id = served
        .client()
        .add(&pack_directory(&tree, &Limits::default()).unwrap())
        .await
        .unwrap();
    let archive = served.post(&format!("get?arg={id}")).await.bytes().await.unwrap();
    let back = served.dir.path().join("back");
    ::tar::Archive::new(archive.as_ref()).unpack(&back).unwrap();
    assert_eq!(read_tree(&back.join(id.to_string())), read_tree(&tree));
}

#[tokio::test]
async fn corruption_cuts_the_answer_short() {
    let served = served().await;
    let tree = served.dir.path().join("tree");
    write_tree(&tree, &[("large", &pattern(1 << 20), false)]);
    let packed = pack_directory(&tree, &Limits::default()).unwrap();
    let client = served.client();
    client.add(&packed).await.unwrap();
    let cids = tests::cids_of(&packed);
    let name = hex::encode(cids[2].hash().digest());
    std::fs::write(
        served.store.dir().join("blocks").join(&name[..2]).join(&name),
        "bad",
    )
    .unwrap();
    let whole = served
        .post(&format!("cat?arg={}/large", packed.root()))
        .await
        .bytes()
        .await;
    assert!(whole.is_err(), "a part is not taken for the whole");
    let whole = served
        .get(&format!("/ipfs/{}/large", packed.root()))
        .await
        .bytes()
        .await;
    assert!(whole.is_err());
    let error = client
        .fetch(packed.root(), &served.dir.path().join("back"), &Limits::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, crate::ContentError::Refused { message, .. } if message.contains("corrupt")),
        "{error}"
    );
}
