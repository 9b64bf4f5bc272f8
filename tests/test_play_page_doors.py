"""Who may come in and who may stay: tokens, full servers, pages left alone; each told in words that help."""

from collections.abc import Iterator
from typing import Any

import pytest
from browsers import PlayServer, play_server, require_browser, small_world
from visiting import LIVE, Visit

from app.play import protocol
from app.play.server import ServerConfig

require_browser()

TOKEN, OTHER = "a-token-of-tests", "a-token-of-others"


@pytest.fixture
def server() -> Iterator[PlayServer]:
    server = play_server(small_world())
    yield server
    server.stop()


def serve(server: PlayServer, **config: Any) -> None:
    """Another server in its place."""
    server.stop()
    server.config = ServerConfig(**config)
    server.start()


def test_with_the_token_everything_works_and_links_carry_it(browser: Any, server: PlayServer) -> None:
    serve(server, token=TOKEN)
    visit = Visit(browser, f"{server.address}?token={TOKEN}")
    pictures = "[...document.querySelectorAll('.prompt img')].map((one) => one.naturalWidth)"
    visit.until(f"{pictures}.every((width) => width > 0)")
    assert len(visit.page.evaluate(pictures)) == 2
    visit.page.keyboard.down("1")
    visit.until("genie.state().step >= 3")
    visit.page.keyboard.up("1")
    visit.pause_at(3)
    with visit.page.expect_download() as download:
        visit.tool("last")
    assert download.value.suggested_filename == "tested-1.mp4"
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.tool("share")
    visit.until("[...document.querySelectorAll('.toast')].some((one) => one.textContent.includes('link'))")
    assert "holds this server's token" in visit.toasts()
    assert f"?token={TOKEN}#prompt=00" in visit.page.evaluate("navigator.clipboard.readText()")
    visit.close()


@pytest.mark.parametrize("query", ["", "?token=", f"?token={OTHER}"])
def test_without_the_token_the_address_is_refused_in_words(browser: Any, server: PlayServer, query: str) -> None:
    serve(server, token=TOKEN)
    visit = Visit(browser, f"{server.address}{query}", greeted=False)
    assert "lacks its token" in visit.page.text_content("body")
    assert "genie play" in visit.page.text_content("body")
    visit.context.close()


def test_a_page_whose_token_is_no_longer_good_says_so_and_stops(browser: Any, server: PlayServer) -> None:
    serve(server, token=TOKEN)
    visit = Visit(browser, f"{server.address}?token={TOKEN}")
    serve(server, token=OTHER)
    visit.until("genie.state().link === 'stopped'")
    assert "lacks its token" in visit.page.text_content("#badge")
    assert visit.page.is_visible("#resume")
    serve(server, token=TOKEN)
    visit.tool("resume")
    visit.until(LIVE)
    assert visit.page.is_hidden("#resume")
    visit.complaints.clear()  # refused connections are told in the console, as they should be
    visit.close()


def test_a_page_left_alone_is_sent_away_and_comes_back_by_a_key_or_a_click(browser: Any, server: PlayServer) -> None:
    serve(server, idle_seconds=2.0)
    visit = Visit(browser, server.address)
    visit.page.keyboard.down("1")
    visit.until("genie.state().step >= 3")
    visit.page.keyboard.up("1")
    visit.pause_at(3)
    step, picture = visit.state()["step"], visit.pixels()
    for come_back in (lambda: visit.page.keyboard.press("2"), lambda: visit.tool("resume")):
        visit.until("genie.state().link === 'stopped'")
        assert visit.state()["closed"] == 4000
        for place in ("#badge", "#link-state", "#status"):
            assert "left alone" in visit.page.text_content(place)
        assert visit.page.text_content("#resume") == "Connect again"
        visit.page.wait_for_timeout(700)  # it does not come back by itself
        assert visit.state()["link"] == "stopped"
        come_back()
        visit.until("genie.state().link === 'live' && genie.state().busy === null && genie.drawn()")
        visit.settle()
        assert visit.state()["step"] == step
        assert (visit.pixels() == picture).all()
    visit.close()


def test_a_page_of_another_version_says_so(browser: Any, server: PlayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "PROTOCOL", protocol.PROTOCOL + 1)
    visit = Visit(browser, server.address, greeted=False)
    visit.until("window.genie && genie.state().link === 'stopped'")
    assert "load this page anew" in visit.page.text_content("#badge")
    visit.close()


def test_a_full_server_says_so_and_lets_in_when_there_is_room(browser: Any, server: PlayServer) -> None:
    serve(server, sessions=1)
    first = Visit(browser, server.address)
    second = Visit(browser, server.address, greeted=False)
    second.until("window.genie && genie.state().link === 'down'")
    assert second.state()["closed"] == 1013
    for place in ("#badge", "#link-state", "#status"):
        assert "all places are taken" in second.page.text_content(place)
    second.page.wait_for_timeout(700)
    assert first.state()["link"] == "live"
    first.close()
    second.until(LIVE)
    assert second.page.is_hidden("#badge")
    second.close()
