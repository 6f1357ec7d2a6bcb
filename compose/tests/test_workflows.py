"""The files that contributors meet first agree with each other: workflows, ./test, manifests and versions."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
GITHUB = PROJECT / ".github"
TEST = (PROJECT / "test").read_text()
# Folders without sources of the project.
SKIPPED = {"target", ".test", ".git", "node_modules"}
# What follows "cargo" in a workflow.
CARGO_COMMANDS = {"fmt", "clippy", "doc", "check", "build", "test", "run"}
# What separates two commands in a line.
OPERATORS = {"&&", "||", ";", "|", "(", ")"}


def workflows() -> dict[str, dict]:
    """Every workflow, by the name of its file."""
    return {file.name: yaml.safe_load(file.read_text()) for file in sorted((GITHUB / "workflows").glob("*.yml"))}


def jobs() -> Iterator[tuple[str, dict]]:
    """Every job, with a name for messages."""
    for name, workflow in workflows().items():
        for job, content in workflow["jobs"].items():
            yield f"{name}: {job}", content


def steps() -> Iterator[tuple[str, dict]]:
    """Every step of every job."""
    for name, job in jobs():
        for step in job.get("steps", []):
            yield name, step


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every simple command of every step, as words."""
    for name, step in steps():
        for line in step.get("run", "").splitlines():
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            for is_operator, command in groupby(words, lambda word: word in OPERATORS):
                if not is_operator:
                    yield name, list(command)


def manifests() -> dict[str, Path]:
    """The folder of every crate, by the crate's name."""
    found = {}
    for manifest in PROJECT.rglob("Cargo.toml"):
        if not SKIPPED.intersection(manifest.relative_to(PROJECT).parts):
            package = tomllib.loads(manifest.read_text()).get("package")
            if package:
                found[package["name"]] = manifest.parent
    return found


def workspace() -> dict:
    """What all crates have in common."""
    return tomllib.loads((PROJECT / "Cargo.toml").read_text())["workspace"]["package"]


def tiers() -> set[str]:
    """The tiers that ./test explains."""
    explained = subprocess.run([PROJECT / "test", "--help"], check=True, capture_output=True, text=True).stdout
    listed = explained.split("Tiers:")[1].split("\n\n")[0]
    return set(re.findall(r"^  (\w+)  ", listed, re.MULTILINE))


def test_every_workflow_has_triggers_jobs_and_read_only_rights_by_default() -> None:
    assert set(workflows()) == {"ci.yml", "nightly.yml", "release.yml"}
    for name, workflow in workflows().items():
        # YAML 1.1 reads the key "on" as true.
        assert workflow[True] and workflow["jobs"], name
        assert workflow["permissions"] == {"contents": "read"}, name
    for name, job in jobs():
        assert ("uses" in job) != ("runs-on" in job), name
        needed = job.get("needs", [])
        for other in [needed] if isinstance(needed, str) else needed:
            assert other in workflows()[name.split(":")[0]]["jobs"], name


def test_every_step_runs_a_command_or_an_action_of_a_named_version() -> None:
    for name, step in steps():
        assert ("uses" in step) != ("run" in step), f"{name}: {step}"
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|stable|master)", step["uses"]), f"{name}: {step}"
    for name, job in jobs():
        if "uses" in job:
            assert (PROJECT / job["uses"]).is_file(), name


def test_every_command_of_a_workflow_exists_in_the_project() -> None:
    seen = 0
    for name, words in commands():
        what = f"{name}: {' '.join(words)}"
        if words and words[0].startswith("./"):
            assert (PROJECT / words[0]).stat().st_mode & 0o111, what
            seen += 1
        if words[:1] == ["./test"]:
            assert len(words) == 2 and words[1] in tiers(), what
        if words[:1] == ["cargo"]:
            assert words[1] in CARGO_COMMANDS, what
            packages = [after for before, after in pairwise(words) if before == "-p"]
            assert set(packages) <= set(manifests()), what
            seen += 1
            if words[1] in ("fmt", "clippy", "doc"):
                assert " ".join(words) in TEST, f"{what} is not the command that ./test runs"
    assert seen >= 5, "no command was found"


def test_the_command_of_the_tests_explains_its_tiers_and_refuses_other_arguments() -> None:
    assert tiers() == {"quick", "all", "nightly"}
    refused = subprocess.run([PROJECT / "test", "everything"], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "unknown argument: everything" in refused.stderr


def test_every_target_of_the_quick_tier_exists_and_has_a_name_of_its_own() -> None:
    """Cargo takes a target by its name in any crate, so a second one of that name would run, too."""
    targets: list[tuple[str, Path]] = []
    for folder in manifests().values():
        targets += [(file.stem, folder) for file in folder.glob("tests/*.rs")]
        targets += [(file.parent.name, folder) for file in folder.glob("tests/*/main.rs")]
    patterns = [
        row.split()[0]
        for variable in ("QUICK_TARGETS", "QUICK_FILTERED_TARGETS")
        for row in shlex.split(re.search(rf"{variable}=\(([^)]*)\)", TEST)[1])
    ]
    assert len(patterns) > 5
    for pattern in patterns:
        parent, _, name = pattern.rpartition("/")
        above = PROJECT / parent
        chosen = [target for target, folder in targets if folder.is_relative_to(above) and name in ("*", target)]
        assert chosen, f"{pattern} matches no test target"
        for target in chosen:
            # Cargo runs the targets of this name in every crate.
            outside = [str(folder) for other, folder in targets if other == target and not folder.is_relative_to(above)]
            assert not outside, f"{target} is also a test target of {outside}"


def test_versions_agree_wherever_they_are_written() -> None:
    oldest, version = workspace()["rust-version"], workspace()["version"]
    minor = oldest.split(".")[1]
    assert f"RUST_MINOR_MIN={minor}\n" in TEST
    job = workflows()["ci.yml"]["jobs"]["minimum-rust"]
    assert job["env"]["RUSTUP_TOOLCHAIN"] == oldest
    assert [step["with"]["toolchain"] for step in job["steps"] if "toolchain" in step.get("with", {})] == [oldest]
    for page in ("README.md", "CONTRIBUTING.md", "docs/compatibility.md"):
        assert oldest in (PROJECT / page).read_text(), f"{page} does not name Rust {oldest}"
    image = re.search(r"^FROM rust:1\.(\d+)-", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None and int(image[1]) >= int(minor)
    newest = re.search(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == version
    assert f"| {version.rsplit('.', 1)[0]}.x | yes |" in (PROJECT / "SECURITY.md").read_text()


def test_every_folder_that_dependabot_watches_has_a_manifest() -> None:
    manifest = {
        "cargo": "Cargo.toml",
        "npm": "package.json",
        "pip": "*.txt",
        "docker": "Dockerfile",
        "docker-compose": "compose.yaml",
        "github-actions": ".github/workflows/*.yml",
    }
    for update in yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]:
        for folder in update.get("directories", [update.get("directory")]):
            found = list((PROJECT / folder.lstrip("/")).glob(manifest[update["package-ecosystem"]]))
            assert found, f"{update['package-ecosystem']} in {folder}"


def test_every_issue_form_can_be_filled_in() -> None:
    forms = [file for file in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if file.name != "config.yml"]
    assert len(forms) == 3
    for file in forms:
        form = yaml.safe_load(file.read_text())
        assert form["name"] and form["description"], file.name
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert ids and len(ids) == len(set(ids)), file.name
        for field in form["body"]:
            assert field["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes"), file.name
            assert "value" in field["attributes"] or "label" in field["attributes"], file.name


def test_every_link_of_a_page_leads_to_a_file() -> None:
    pages = [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]
    assert len(pages) > 8
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"
