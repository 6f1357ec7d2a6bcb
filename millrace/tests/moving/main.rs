//! The guides in `docs/moving`: the key that a guide creates, and the programs that it shows for Python and
//! Node, run with nothing changed but the address and the key.

#[path = "../installation/mod.rs"]
mod installation;
#[path = "../edge/site.rs"]
#[allow(dead_code, reason = "shared with the target edge, which uses more of it")]
mod site;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use installation::PATIENCE;
use site::Site;
use testkit::eventually;

/// The address in the guides.
const ADDRESS: &str = "https://millrace.example.com";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The first block of a language in a guide.
fn block<'a>(guide: &'a str, language: &str) -> &'a str {
    let (_, rest) = guide.split_once(&format!("```{language}\n")).expect("the guide has the language");
    rest.split_once("```").expect("the block ends").0
}

async fn run(mut command: tokio::process::Command, what: &str) {
    command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap_or_else(|error| panic!("{what}: {error}; ./test installs it"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moving_guide_works_as_it_stands_in_python_and_node() {
    let site = Site::on_files().await;
    let mut stored = 0;
    let mut guides: Vec<_> =
        std::fs::read_dir(project().join("docs/moving")).unwrap().map(|file| file.unwrap().path()).collect();
    guides.sort_unstable();
    assert!(guides.len() > 1);
    for (number, file) in guides.iter().enumerate() {
        let guide = std::fs::read_to_string(file).unwrap();
        let (_, key) = guide.split_once("millrace key create shop --key ").unwrap();
        let key = key.split_whitespace().next().unwrap();
        // Two guides show the same key.
        let name = format!("guide-{number}");
        let own = format!("{key}-{number}");
        site.project(&name, &["--key", &own]).await;
        let guide = guide.replace(key, &own).replace(ADDRESS, &format!("http://{}", site.address));
        let mut python = tokio::process::Command::new(project().join(".test/venv/bin/python"));
        python.args(["-c", block(&guide, "python")]);
        run(python, &format!("Python of {}", file.display())).await;
        let mut node = tokio::process::Command::new("node");
        node.current_dir(project().join("testkit/sdk/node")).args([
            "--input-type=module",
            "--eval",
            block(&guide, "js"),
        ]);
        run(node, &format!("Node of {}", file.display())).await;
        stored += 2;
        eventually(PATIENCE, &format!("both events of {}", file.display()), async || {
            let events = site.events().await;
            if events.len() == stored { Ok(()) } else { Err(format!("{events:#?}")) }
        })
        .await;
    }
    for event in site.events().await {
        // Some formats have no blanks in names.
        let name = event["name"].as_str().unwrap().replace('_', " ").to_lowercase();
        assert_eq!((name.as_str(), &event["subject"]), ("order completed", &"user-1".into()));
        assert_eq!(event["properties"]["revenue"], 19.9, "{event}");
    }
    assert_eq!(site.letters().await.len(), 0);
}
