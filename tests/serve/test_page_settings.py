"""Settings on the page: those of the server, told and explained, of which only changes are sent; and the page's own."""

from collections.abc import Callable

import httpx
from playwright.sync_api import Browser, Page, expect

from serve.pages import STATE, Opens, changed, done, made, make, newest, prompt, settings, tabs
from serve.serving import Studio
from sumi.store.assembly import SHIPPED


def test_no_model_is_the_one_that_comes_with_sumi(same: Page) -> None:
    """A request that names no model keeps the present one; one of which the model is null was made by sumi's own."""
    prompt(same).fill("")  # of which no model is asked
    use = f"{STATE}.then(({{ settings }}) => {{ settings.set({{ model: 'other' }}); settings.use(%s); return settings.get('model'); }})"
    models = [same.evaluate(use % given) for given in ("{ steps: 3 }", "{ steps: 3, model: null }", "{ steps: 3, model: 'third' }")]
    same.evaluate(f"{STATE}.then(({{ settings }}) => settings.replace({{}}))")
    assert models == ["other", None, "third"]


def test_one_model_that_is_named_is_what_it_begins_with(browser: Browser, begin: Callable[..., Studio]) -> None:
    studio = begin(key=None, models={"mine": str(SHIPPED)})
    with tabs(browser, studio.url) as (_, opens):
        tab = opens()
        chosen = tab.get_by_role("combobox", name="Model")
        expect(chosen).to_have_value("mine")
        chosen.select_option("")
        tab.reload()
        expect(chosen).to_have_value("")
    assert httpx.get(f"{studio.url}/sdapi/v1/options").json()["sd_model_checkpoint"] == "mine"


def test_settings_are_those_of_the_server_and_only_changes_are_sent(tab: Page, opened: Studio) -> None:
    settings(tab)
    steps = tab.get_by_role("spinbutton", name="Steps")
    expect(steps).to_have_attribute("placeholder", "20")
    expect(steps).to_have_value("")
    offered = tab.get_by_role("combobox", name="Sampler").locator("option").all_inner_texts()
    assert offered[0] == "dpmpp_2m (default)"
    assert {"ddim", "euler", "unipc"} <= set(offered)
    steps.fill("5")
    tab.get_by_role("slider", name="Guidance").fill("4.5")
    tab.get_by_role("combobox", name="Sampler").select_option("euler")
    tab.get_by_text("How to sample", exact=True).click()
    tab.get_by_role("spinbutton", name="s_churn").fill("0.5")
    tab.get_by_text("How to guide", exact=True).click()
    tab.get_by_role("textbox", name="Guide between").fill("0.5; 10")
    tab.get_by_text("Which noise", exact=True).click()
    tab.get_by_role("spinbutton", name="First number").fill("3")
    tab.get_by_role("button", name="Negative prompt").click()
    tab.get_by_role("textbox", name="Negative prompt").fill("a tree")
    made(tab, "a cat")
    job = newest(opened)
    assert changed(job) == {
        "prompt": "a cat", "negative": "a tree", "steps": 5, "guidance": 4.5, "sampler": "euler", "options": {"s_churn": 0.5},
        "guidance_interval": (0.5, 10.0), "first": 3, "seed": job.request.seed,
    }  # fmt: skip
    tab.get_by_role("button", name="Steps: back to the default").click()
    expect(steps).to_have_value("")
    expect(tab.get_by_role("slider", name="Steps")).to_have_value("20")
    tab.get_by_role("button", name="Reset all").click()
    expect(tab.get_by_role("combobox", name="Sampler")).to_have_value("")
    expect(tab.get_by_role("button", name="Reset all")).to_be_disabled()
    expect(prompt(tab)).to_have_value("a cat")


def test_every_setting_says_why(same: Page) -> None:
    settings(same)
    for group in same.locator("parameter-list summary").all():
        if group.is_visible():
            group.click()
    why = same.locator("parameter-list .field:visible .ask")
    assert why.count() > 15
    for button in why.all():
        button.click()
        told = same.locator(f"#{button.get_attribute('aria-controls')}")
        expect(told).to_be_visible()
        assert len(told.inner_text()) > 40
        expect(button).to_have_attribute("aria-expanded", "true")


def test_what_a_field_depends_on_is_left_out_rather_than_refused(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.evaluate(
        "import('/page/state.js').then(({settings}) => settings.set({strength: 0.4, mask_blur: 3, hires_strength: 0.2, steps: 2}))"
    )
    expect(tab.locator("[data-name=strength]")).to_be_hidden()
    made(tab, "a dog")
    assert set(changed(newest(opened))) == {"prompt", "steps", "seed"}


def test_a_refusal_is_told_where_it_belongs(browser: Browser, opened: Studio) -> None:
    with tabs(browser, opened.url, lost=True) as (_, opens):
        refused_and_mended(opens())


def refused_and_mended(tab: Page) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("9999")
    make(tab, "a dog")
    refused = tab.locator("make-row .failure")
    expect(refused).to_contain_text("steps may be 250 here at most")
    tab.get_by_role("spinbutton", name="Steps").fill("2")
    made(tab)
    expect(refused).to_be_hidden()


def test_shapes_and_sizes(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("2")
    tab.get_by_role("radio", name="Landscape, 80 by 48").click()
    expect(tab.get_by_role("radio", name="Landscape")).to_be_checked()
    made(tab, "a boat")
    assert (newest(opened).request.width, newest(opened).request.height) == (80, 48)
    tab.get_by_role("button", name="Exchange width and height").click()
    expect(tab.get_by_role("radio", name="Portrait")).to_be_checked()
    tab.get_by_role("button", name="One more").click()
    make(tab)
    expect(tab.locator("making-stage .others button")).to_have_count(2)
    assert (newest(opened).request.width, newest(opened).request.height, newest(opened).request.count) == (48, 80, 2)
    first = done(tab)
    tab.get_by_role("button", name="Picture 2").click()
    assert done(tab) != first
    tab.get_by_role("radio", name="Portrait").press("ArrowLeft")
    expect(tab.get_by_role("radio", name="Landscape")).to_be_checked()
    tab.get_by_role("button", name="Size: back to the default").click()
    expect(tab.get_by_role("radio", name="Square")).to_be_checked()


def test_seeds_are_kept_to_the_last_digit(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("2")
    seed = tab.get_by_role("textbox", name="Seed", exact=True)
    seed.fill(str(2**64 - 1))
    made(tab, "a fish")
    assert newest(opened).request.seed == 2**64 - 1
    tab.get_by_role("button", name="Draw a new seed each time").first.click()
    expect(seed).to_have_value("")
    tab.get_by_role("button", name="keep").first.click()
    expect(seed).to_have_value(str(2**64 - 1))
    tab.get_by_role("button", name="Draw a new seed each time").first.click()
    tab.get_by_role("button", name="Use these settings").click()
    expect(seed).to_have_value(str(2**64 - 1))


def test_colours_are_chosen_and_kept(opens: Opens) -> None:
    tab = opens()
    paper = "getComputedStyle(document.body).backgroundColor"
    system = tab.evaluate(paper)
    tab.get_by_role("button", name="Colours: as the system").click()
    tab.get_by_role("button", name="Colours: light").click()
    tab.get_by_role("button", name="Colours: dark").focus()
    dark = tab.evaluate(paper)
    assert dark != system
    tab.reload()
    assert tab.evaluate(paper) == dark
    other = opens()
    assert other.evaluate(paper) == dark
    other.get_by_role("button", name="Colours: dark").click()
    expect(tab.get_by_role("button", name="Colours: as the system")).to_be_visible()
    assert tab.evaluate(paper) == system


def test_simple_at_first_and_all_of_it_when_asked(tab: Page) -> None:
    expect(tab.locator("#parameters")).to_be_hidden()
    expect(tab.get_by_role("button", name="Make", exact=True)).to_be_visible()
    settings(tab)
    expect(tab.locator("#parameters")).to_be_visible()
    tab.reload()
    expect(tab.locator("#parameters")).to_be_visible()
    settings(tab)
    expect(tab.locator("#parameters")).to_be_hidden()
