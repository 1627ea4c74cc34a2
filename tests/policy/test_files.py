import hashlib

import pytest

from coatcheck.errors import PolicyError
from coatcheck.policy.load import load_policy

HEAD = "coatcheck: 1\n"
MAIN = HEAD + "gateway: {audience: 'https://gateway.example.com'}\n"


@pytest.fixture
def put(tmp_path):
    folder = tmp_path / "policies"

    def written(**files):
        for name, text in files.items():
            path = folder / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return written


def faults(path):
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    folder = path if path.is_dir() else path.parent
    return [(one.where.removeprefix(f"{folder}/"), one.what) for one in caught.value.problems]


def issuer(name):
    return f"issuers: {{{name}: {{issuer: 'https://{name}.example.com', algorithms: [ES256]}}}}\n"


def test_a_file_may_include_others_relative_to_itself(put):
    folder = put(
        a=MAIN + "include: [teams/b.yaml]\n",
        teams__b=HEAD + "include: [c.yaml, ../more/d.yaml]\n" + issuer("b"),
        teams__c=HEAD + issuer("c"),
        more__d=HEAD + issuer("d"),
    )
    for path in (folder, folder / "a.yaml"):
        policy = load_policy(path)
        assert list(policy.issuers) == ["b", "c", "d"]
        assert [file.name for file in policy.files] == ["a.yaml", "b.yaml", "c.yaml", "d.yaml"]
        whole = b"".join(file.read_bytes() for file in policy.files)
        assert policy.sha256 == hashlib.sha256(whole).hexdigest()


def test_what_is_included_counts_in_the_policys_hash(put):
    folder = put(a=MAIN + "include: [x/b.yaml]\n", x__b=HEAD + issuer("b"))
    before = load_policy(folder).sha256
    put(x__b=HEAD + issuer("c"))
    assert load_policy(folder).sha256 != before


def test_files_of_an_included_file_are_relative_to_it(put):
    server = "servers: {s: {url: 'https://s.example', ca: ca.pem}}\n"
    folder = put(a=MAIN + "include: [x/b.yaml]\n", x__b=HEAD + server)
    assert faults(folder) == [("x/b.yaml:2:45", "ca: no such file: ca.pem")]
    (folder / "x" / "ca.pem").write_text("a certificate")
    assert load_policy(folder).servers["s"].ca == folder / "x" / "ca.pem"


@pytest.mark.parametrize(
    ("include", "what"),
    [
        ("[../outside.yaml]", "include: ../outside.yaml is outside the policy's folder"),
        ("[x/../../outside.yaml]", "include: x/../../outside.yaml is outside the policy's folder"),
        ("[/etc/passwd]", "include: /etc/passwd is outside the policy's folder"),
        ("[link.yaml]", "include: link.yaml is outside the policy's folder"),
        ("[folder-link/outside.yaml]", "include: folder-link/outside.yaml is outside the policy's folder"),
        ("[absent.yaml]", "include: no such file: absent.yaml"),
        ("[x]", "include: no such file: x"),
        ("[x/b.txt]", "include: x/b.txt is not a policy file"),
        ("[x/b.test.yaml]", "include: x/b.test.yaml is not a policy file"),
        ("[x/b.yaml, x/b.yaml]", "include: x/b.yaml is read already, by a.yaml:3:11"),
        ("[x/b.yaml, x/./b.yaml]", "include: x/./b.yaml is read already, by a.yaml:3:11"),
        ("[a.yaml]", "include: a cycle: a.yaml → a.yaml"),
        ("[]", "include is an empty list"),
        ("x/b.yaml", "include is a list, not text"),
        ("['${HOME}.yaml']", "include holds '${'"),
        ('["a\\0b"]', "include: no such file: a\0b"),
    ],
)
def test_what_cannot_be_included_is_refused_with_its_place(put, tmp_path, include, what):
    folder = put(a=MAIN + f"include: {include}\n", x__b=HEAD + issuer("b"))
    for name in ("b.txt", "b.test.yaml"):
        (folder / "x" / name).write_text(HEAD)
    (tmp_path / "outside.yaml").write_text(HEAD)
    (folder / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (folder / "folder-link").symlink_to(tmp_path)
    ((where, said),) = faults(folder / "a.yaml")
    assert said.replace(f"{folder}/", "") == what
    assert where.startswith("a.yaml:3:")


def test_a_link_that_stays_within_the_folder_is_a_file_like_any_other(put):
    folder = put(a=MAIN + "include: [x/link.yaml]\n", x__b=HEAD + issuer("b"))
    (folder / "x" / "link.yaml").symlink_to("b.yaml")
    assert list(load_policy(folder).issuers) == ["b"]


def test_a_cycle_is_named_file_by_file(put):
    folder = put(a=MAIN + "include: [x/b.yaml]\n", x__b=HEAD + "include: [c.yaml]\n", x__c=HEAD + "include: [b.yaml]\n")
    assert faults(folder) == [("x/c.yaml:2:11", "include: a cycle: b.yaml → c.yaml → b.yaml")]


def test_what_the_folder_holds_need_not_be_included(put):
    folder = put(a=MAIN + "include: [b.yaml]\n", b=HEAD + issuer("b"))
    assert faults(folder) == [("a.yaml:3:11", "include: b.yaml is read already, by its folder")]
    assert list(load_policy(folder / "a.yaml").issuers) == ["b"]


def test_problems_of_all_files_are_told_at_once(put):
    folder = put(a=MAIN + "include: [x/b.yaml, x/c.yaml]\nrulse: []\n", x__b=HEAD + "issuers: 5\n")
    assert [where for where, _ in faults(folder)] == ["a.yaml:3:21", "a.yaml:4:1", "x/b.yaml:2:10"]


def test_an_included_file_that_cannot_be_read_refuses_the_whole_policy(put):
    folder = put(a=MAIN + "include: [x/b.yaml]\n", x__b="coatcheck: 1\nrules: [\n")
    ((where, said),) = faults(folder)
    assert where == "x/b.yaml:3:1"
    assert said.startswith("not YAML")
