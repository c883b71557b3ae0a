"""The site in a real browser: from the disk and from a server, for friends and against enemies."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.index import catalogue
from llama_marketplace.index.catalogue import summarize, write_line
from llama_marketplace.index.record import Record
from llama_marketplace.site import building
from llama_marketplace.site.listing import Listing
from operating import record

from .making import change, entry, everybody_hostile, shelf

pytestmark = pytest.mark.slow

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
WORDS = ("fast", "exact", "small", "native", "fused", "sparse", "paged")
KINDS = ("transform", "quantizer", "backend")
# What a page's own words would call, were they run.
ALARM = "window.evil = () => { window.broken = true; }; window.alert = window.evil;"


def friend(number: int) -> Record:
    kind, name = KINDS[number % 3], f"llama-plugin-gen-{number:03}"
    words = " ".join(WORDS[(number * step) % len(WORDS)] for step in (1, 2, 5))
    tag = ("py3-none-any", "py3-none-manylinux_2_28_x86_64")[number % 2]
    needs = {"os": ["linux"], "arch": ["x86_64"], "cuda": ">=12.4"} if number % 2 else {}
    history = [change("active")]
    if number % 10 == 9:
        history.append(change(("deprecated", "yanked", "quarantined")[number % 3], "it is over"))
    filename = f"{name.replace('-', '_')}-1.0.0-{tag}.whl"
    return record(
        name=name,
        publisher=("acme", "zenith")[number % 4 == 0],
        summary=f"A {kind} that is {words}",
        licence=("MIT", "Apache-2.0")[number % 5 == 0],
        provides=[{"kind": kind, "name": f"gen-{number}", "api": 1}],
        files=[{"filename": filename, "sha256": "a" * 64, "size": 1, "tags": [tag],
                "needs": needs}],
        published=f"2026-01-{number % 28 + 1:02}T00:00:00Z",
        history=history,
        readme="# Use\n\nAs said [elsewhere](https://docs.example/).\n\n" + "More.\n\n" * 40,
    )  # fmt: skip


RECORDS = [*map(friend, range(120)), *everybody_hostile()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium is here")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    building.build(out, [shelf(*RECORDS)], lambda: None)
    return out


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        pass


@pytest.fixture(scope="module", params=["from the disk", "from a server"])
def url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if request.param == "from the disk":
        yield folder.as_uri() + "/"
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class Visit:
    """A tab, and all that it asked for and complained of."""

    def __init__(self, browser: Any, url: str, **look: Any) -> None:
        self.url = url
        self.context = browser.new_context(**look)
        self.page = self.context.new_page()
        self.page.add_init_script(ALARM)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda each: self.requests.append(each.url))
        self.page.on("console", lambda each: self.complaints.append(each.text))
        self.page.on("pageerror", lambda each: self.complaints.append(str(each)))
        self.page.on("dialog", lambda each: self.complaints.append(each.message))

    def go(self, path: str = "index.html") -> None:
        self.page.goto(self.url + path)

    def names(self) -> list[str]:
        found: list[str] = self.page.locator("#found h2 a").all_inner_texts()
        return found

    def count(self) -> int:
        return int(self.page.locator("#count").inner_text().split()[0])

    def every_name(self) -> list[str]:
        while self.page.locator("#more").is_visible():
            self.page.locator("#more").click()
        return self.names()

    def harmed(self) -> bool:
        return bool(self.page.evaluate("window.broken === true"))


@pytest.fixture
def visit(browser: Any, url: str) -> Iterator[Visit]:
    tab = Visit(browser, url)
    yield tab
    tab.context.close()
    assert tab.complaints == []
    assert [each for each in tab.requests if not each.startswith(url)] == []


def matching(*words: str) -> set[str]:
    lines = b"".join(write_line(summarize([each], verified=False)) for each in RECORDS)
    return {name for name, _ in catalogue.matching(BytesIO(lines), words)}


@pytest.mark.parametrize("words", ["fast", "FAST exact", "gen-01", "zenith quantizer", "nothing"])
def test_searching_finds_what_the_command_finds(visit: Visit, words: str) -> None:
    visit.go()
    assert visit.count() == len(RECORDS)
    visit.page.fill("#words", words)
    assert set(visit.every_name()) == matching(words)
    assert visit.count() == len(matching(words))


def test_the_better_match_comes_first_and_what_is_withdrawn_last(visit: Visit) -> None:
    visit.go()
    visit.page.fill("#words", "gen-01")
    names = visit.every_name()
    assert names[0].startswith("llama-plugin-gen-01")
    assert names[-1] in ("llama-plugin-gen-019", "llama-plugin-gen-119")
    visit.page.fill("#words", "")
    visit.page.select_option("#sort", "newest")
    assert visit.names()[0] == "llama-plugin-gen-027"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("kind", "backend", lambda one: one.provides[0].kind == "backend"),
        ("platform", "linux/x86_64", lambda one: True),
        ("device", "cuda", lambda one: one.files[0].needs.cuda),
        ("device", "none", lambda one: not one.files[0].needs.cuda),
        ("licence", "Apache-2.0", lambda one: one.licence == "Apache-2.0"),
        ("status", "quarantined", lambda one: one.status.status == "quarantined"),
        ("status", "active", lambda one: one.status.status == "active"),
    ],
)
def test_filters(visit: Visit, field: str, value: str, expected: Any) -> None:
    visit.go()
    visit.page.select_option(f"#{field}", value)
    wanted = {each.name for each in RECORDS if expected(each)}
    assert set(visit.every_name()) == wanted
    visit.page.reload()  # and the address remembers
    assert visit.page.input_value(f"#{field}") == value
    assert visit.count() == len(wanted)
    visit.page.get_by_role("button", name="Clear").click()
    visit.page.wait_for_function(
        f"document.getElementById('count').textContent.startsWith('{len(RECORDS)} ')"
    )


def test_verified_publishers_only(visit: Visit) -> None:
    visit.go()
    visit.page.get_by_label("Verified publishers only").check()
    assert set(visit.every_name()) == {each.name for each in RECORDS if each.publisher == "acme"}


def test_by_keyboard_alone_to_a_plugins_page(visit: Visit) -> None:
    visit.go()
    keys = visit.page.keyboard
    keys.press("/")
    keys.type("gen-042")
    assert visit.names() == ["llama-plugin-gen-042"]
    for _ in range(20):
        keys.press("Tab")
        if visit.page.evaluate("document.activeElement.closest('#found') !== null"):
            break
    keys.press("Enter")
    visit.page.wait_for_url("**/plugins/llama-plugin-gen-042.html")
    assert visit.page.locator("h1").inner_text() == "llama-plugin-gen-042 1.0.0"
    visit.page.go_back()
    assert visit.page.input_value("#words") == "gen-042"


def test_more_are_shown_when_asked_for_and_the_focus_is_on_them(visit: Visit) -> None:
    visit.go()
    first = visit.names()
    visit.page.locator("#more").focus()
    visit.page.keyboard.press("Enter")
    names = visit.names()
    assert len(first) < len(names) < len(RECORDS)
    assert visit.page.evaluate("document.activeElement.textContent") == names[len(first)]


def test_of_ten_thousand_only_what_is_looked_at_is_in_the_page(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "site")
    listing = Listing()
    for number in range(10_000):
        new = {"name": f"llama-plugin-many-{number:05}"}
        listing.add(entry(RECORDS[number % 100].model_copy(update=new)))
    (tmp_path / "site" / "catalogue.js").write_bytes(listing.script())
    tab = Visit(browser, (tmp_path / "site").as_uri() + "/")
    tab.go()
    assert tab.count() == 10_000
    assert len(tab.names()) == 50
    tab.page.fill("#words", "many-0777")
    assert tab.names() == [f"llama-plugin-many-0777{last}" for last in range(10)]
    tab.context.close()


def test_an_install_line_is_copied(visit: Visit) -> None:
    if visit.url.startswith("http"):
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.go("plugins/llama-plugin-gen-001.html")
    line = "llama marketplace install llama-plugin-gen-001"
    visit.page.get_by_role("button", name=f"Copy: {line}").click()
    visit.page.wait_for_function("document.getElementById('told').textContent !== ''")
    if visit.url.startswith("http"):
        assert visit.page.evaluate("navigator.clipboard.readText()") == line
    else:
        said = visit.page.locator("#told").inner_text()
        marked = visit.page.evaluate("String(getSelection())")
        assert said == "Copied" or marked == line


def test_nothing_of_a_hostile_record_runs_or_loads(visit: Visit) -> None:
    for each in everybody_hostile():
        visit.go(f"index.html#q={each.name}&licence=x")
        visit.go(f"plugins/{each.name}.html")
        for element in visit.page.locator(".readme a").all():
            assert element.get_attribute("href").startswith("https://")
        visit.page.locator(".readme").hover()
        assert not visit.harmed()
    visit.go()
    visit.page.fill("#words", "evil")
    assert len(visit.every_name()) == len(everybody_hostile())
    assert not visit.harmed()


def test_the_policy_would_stop_what_escaping_let_through(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    """The alarm rings on a page without the policy, so its silence on the others says something."""
    shutil.copytree(folder, tmp_path / "site")
    page = tmp_path / "site" / "plugins" / "llama-plugin-gen-001.html"
    text = page.read_text("utf-8")
    bad = "<script>evil()</script><img src='x.gif' onerror='evil()'>"
    rang = {}
    for policy in ("Content-Security-Policy", "X-Nothing"):
        made = text.replace("Content-Security-Policy", policy).replace("<h1>", f"{bad}<h1>")
        page.write_text(made, "utf-8")
        tab = Visit(browser, (tmp_path / "site").as_uri() + "/")
        tab.go("plugins/llama-plugin-gen-001.html")
        rang[policy] = tab.harmed()
        tab.context.close()
    assert rang == {"Content-Security-Policy": False, "X-Nothing": True}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_fits_the_window_and_can_be_read(
    browser: Any, url: str, width: int, scheme: str
) -> None:
    tab = Visit(browser, url, viewport={"width": width, "height": 700}, color_scheme=scheme)
    for path in ("index.html", "all.html", "plugins/llama-plugin-evil-0.html"):
        tab.go(path)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        poor = tab.page.evaluate(CONTRAST)
        assert poor == []
    tab.context.close()


# Text whose colour is too near to what lies behind it, by the formula of WCAG: 4.5 to 1.
CONTRAST = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((one) => one / 255)
    .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = parts(getComputedStyle(each).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const each of document.querySelectorAll("body *")) {
    const own = [...each.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!own || !each.checkVisibility()) continue;
    const [a, b] = [light(parts(getComputedStyle(each).color)), light(behind(each))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([each.outerHTML.slice(0, 80), ratio]);
  }
  return poor;
}"""


def test_a_reader_of_screens_finds_its_way(visit: Visit) -> None:
    visit.go()
    page = visit.page
    for name in ("Kind", "Platform", "Device", "Licence", "Status", "Order"):
        assert page.get_by_role("combobox", name=name).count() == 1
    assert page.get_by_role("searchbox").count() == 1
    assert page.get_by_role("status").inner_text().startswith(f"{len(RECORDS)} of")
    assert page.get_by_role("list", name="Plugins found").get_by_role("listitem").count() == 50
    visit.go("plugins/llama-plugin-gen-001.html")
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((one) => +one.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
