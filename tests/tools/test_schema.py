# SPDX-License-Identifier: Apache-2.0
"""The schema of AsyncActor: what is made of it is fresh, and Kubernetes' rules for structural schemas hold."""
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
# What src/core/schema.h understands, and what is for readers and for Kubernetes only.
CHECKED = {"type", "properties", "required", "additionalProperties", "items", "enum", "minimum", "maximum", "minLength",
           "maxLength", "minItems", "maxItems", "maxProperties", "pattern", "format", "default",
           "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type",
           "x-kubernetes-list-map-keys"}
OTHERS = {"description", "x-kubernetes-validations", "anyOf"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return yaml.safe_load(f)


def nodes(node, path=""):
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}.*")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")


SOURCE = read("deploy/schema/asyncactor.yaml")
NODES = list(nodes(SOURCE["schema"]))


def run(root, *args):
    return subprocess.run([sys.executable, os.path.join(root, "tools/schema"), *args], capture_output=True, text=True)


def test_generated_files_are_fresh():
    result = run(ROOT, "--check")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", ["deploy/crds/asya.sh_asyncactors.yaml", "docs/asyncactor.md"])
def test_a_stale_file_is_named(tmp_path, path):
    for folder in ("tools", "deploy", "docs"):
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder)
    assert run(tmp_path, "--check").returncode == 0
    with open(tmp_path / path, "a", encoding="utf-8") as f:
        f.write("\n")
    result = run(tmp_path, "--check")
    assert result.returncode == 1
    assert path in result.stdout
    assert run(tmp_path).returncode == 0
    assert run(tmp_path, "--check").returncode == 0


def test_the_crd_holds_the_schema():
    version = read("deploy/crds/asya.sh_asyncactors.yaml")["spec"]["versions"][0]
    assert version["schema"]["openAPIV3Schema"] == SOURCE["schema"]
    assert version["subresources"] == {"status": {}}
    assert version["name"] == "v1alpha1" and version["served"] and version["storage"]


def test_columns_and_names_are_those_of_the_contract():
    plain = [c["name"] for c in SOURCE["columns"] if not c.get("priority")]
    wide = [c["name"] for c in SOURCE["columns"] if c.get("priority")]
    assert plain == ["Status", "Running", "Failing", "Total", "Desired", "Min", "Max", "Last-Scale", "Age"]
    assert wide == ["Workload", "Transport", "Scaling", "Queued", "Processing"]
    assert sorted(SOURCE["names"]["shortNames"]) == ["asya", "asyas", "asyncactor"]


def test_every_column_points_at_a_field():
    fields = {path for path, _ in NODES}
    for column in SOURCE["columns"]:
        assert column["jsonPath"] in fields | {".metadata.creationTimestamp"}


def test_every_node_has_a_type():
    for path, node in NODES:
        if node.get("x-kubernetes-int-or-string"):
            assert "type" not in node, path
            assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
        else:
            assert node["type"] in {"object", "array", "string", "integer", "boolean"}, path
        assert ("items" in node) == (node.get("type") == "array"), path


def test_only_known_keywords_are_used():
    for path, node in NODES:
        assert not set(node) - CHECKED - OTHERS, path
        assert node.get("format") in {None, "duration", "date-time", "int32", "int64"}, path


def test_properties_and_additional_properties_exclude_each_other():
    for path, node in NODES:
        assert not ("properties" in node and "additionalProperties" in node), path


def test_metadata_is_left_to_kubernetes():
    assert SOURCE["schema"]["properties"]["metadata"] == {"type": "object"}


def test_every_field_has_a_description():
    for path, node in NODES:
        assert path == ".metadata" or node["description"].strip().endswith((".", ".)", ").")), path


def test_required_members_exist_and_have_no_default():
    for path, node in NODES:
        for name in node.get("required", []):
            assert "default" not in node["properties"][name], f"{path}.{name}"


def test_defaults_fit_their_fields():
    types = {"object": dict, "string": str, "integer": int, "boolean": bool}
    for path, node in NODES:
        if "default" not in node:
            continue
        value = node["default"]
        assert type(value) is types[node["type"]], path
        assert value in node.get("enum", [value]), path
        if node["type"] == "integer":
            assert node.get("minimum", value) <= value <= node.get("maximum", value), path
        if "pattern" in node:
            assert re.search(node["pattern"], value), path


def test_patterns_are_read_alike_by_re2_and_posix():
    for path, node in NODES:
        pattern = node.get("pattern", "")
        assert pattern.isascii() and "(?" not in pattern and not re.search(r"[*+?}]\?", pattern), path
        assert not re.search(r"\\[^.]", pattern), path
        for inside in re.findall(r"\[\^?\]?([^]]*)\]", pattern):
            assert "\\" not in inside and "[" not in inside, path
        if pattern:
            assert "maxLength" in node or node.get("x-kubernetes-int-or-string") or path.startswith(".status"), path


def test_lists_and_maps_that_rules_walk_have_a_limit():
    for path, node in NODES:
        text = " ".join(rule["rule"] for rule in node.get("x-kubernetes-validations", []))
        if node.get("type") == "array" and "self." in text:
            assert "maxItems" in node, path
        for name in re.findall(r"self\.(\w+)\.all\(", text):
            assert "maxItems" in node["properties"][name], f"{path}.{name}"


def test_every_rule_has_a_message_and_a_manifest_that_breaks_it():
    with open(os.path.join(ROOT, "tests/data/manifests/bad/rules.txt"), encoding="utf-8") as f:
        report = f.read()
    with open(os.path.join(ROOT, "tests/data/manifests/bad/name-of-dead-letters.txt"), encoding="utf-8") as f:
        report += f.read()
    twins = {
        "the name of an actor is a DNS label, at most 63 of a-z, 0-9 and -": "metadata.name",
        "names that end in -dlq are for dead-letter queues": "names that end in -dlq are for dead-letter queues",
        "minReplicas must be at most maxReplicas": "must be at most maxReplicas",
        "a formula needs a target": "a formula needs a target",
        "exactly one container must be called asya-runtime": "exactly one container must be called asya-runtime",
        "no container may be called asya-sidecar, the operator adds it": "no container may be called asya-sidecar",
        "every rule must name one of the policies": 'there is no policy "retri"',
        "maxAttempts 0 is without a limit and needs a maxDuration": "0 is without a limit and needs a maxDuration",
        "must be longer than 0": "must be longer than 0",
    }
    for path, node in NODES:
        for rule in node.get("x-kubernetes-validations", []):
            assert twins[rule["message"]] in report, path


def test_the_example_of_the_document_is_a_good_manifest():
    with open(os.path.join(ROOT, "docs/asyncactor.md"), encoding="utf-8") as f:
        example = f.read().split("```yaml\n")[1].split("```")[0]
    with open(os.path.join(ROOT, "tests/data/manifests/good/documented.yaml"), encoding="utf-8") as f:
        assert f.read() == example


def test_embed_writes_the_bytes(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out.c"
    source.write_bytes(bytes(range(256)))
    subprocess.run([sys.executable, os.path.join(ROOT, "tools/embed"), source, target, "x", "h.h"], check=True)
    text = target.read_text()
    numbers = re.search(r"\{(.*)\}", text, re.S).group(1)
    assert bytes(int(n) for n in numbers.split(",")) == bytes(range(256))
    assert "const size_t x_size = 256;" in text
