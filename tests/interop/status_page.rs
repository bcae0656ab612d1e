//! The status page in Chromium: it shows the current state, updates itself, and displays external data only as text.

use asf_publishing_point::config::{Config, PointConfig, Principals};
use asf_publishing_point::{BlockingServer, RelayConfig, Server};
use test_support::browser::{Browser, DESKTOP, PHONE, Viewport};
use test_support::encoder::{Encoder, Player, header};
use test_support::pipeline::until;
use test_support::wire::{Push, Wire};
use wmhttp::packet::Packet;
use wmhttp::server::access::AccessPolicy;

const AGENT: &str = "WMEncoder/12.0.0.0 test/1";

fn server(points: &[&str]) -> BlockingServer {
    Server::spawn(Config::with_points(points.iter().copied(), &PointConfig::default())).unwrap()
}

/// A browser on the server's page that has received its first response.
fn watching(server: &BlockingServer) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("http://{}/", server.addr()));
    browser.until("the first answer", "return document.getElementById('link').dataset.state === 'connected'");
    browser
}

/// Asserts that the page sent requests only to its own server, and that its console is empty.
fn is_quiet(browser: &Browser, server: &BlockingServer) {
    let own = format!("http://{}/", server.addr());
    let fetched = browser.fetched();
    assert!(fetched.len() > 3, "{fetched:?}");
    let others: Vec<_> = fetched.iter().filter(|url| !url.starts_with(&own)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(browser.console(), [] as [String; 0]);
}

/// A publishing point receives a push, and its header has arrived.
const ON_AIR: &str = "return document.querySelector('.point[data-state=pushed] .chips li') !== null";
const LINE: &str = "return document.querySelector('figure.in path.line').getAttribute('d')";

#[test]
fn a_push_is_shown_and_its_plot_moves() {
    let server = server(&["concert", "quiet"]);
    let browser = watching(&server);
    browser.until("both are idle", "return document.querySelectorAll('.point[data-state=idle]').length === 2");
    let encoder = Encoder::start(server.addr(), "concert", AGENT, header("Käse ☂", "Käthe"));
    browser.until("the push", ON_AIR);
    let player = Player::start(server.addr(), "concert", "NSPlayer/9.0", false);
    browser.until("the player", "return /\\b1 player\\b/.test(document.body.innerText)");
    let text = browser.text();
    for expected in
        ["Käse ☂", "by Käthe", AGENT, "Windows Media Audio 2", "320 × 240", "136 kbit/s", "44.1 kHz", "stereo"]
    {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }

    browser.until("a rate", "return / (kbit|Mbit)\\/s$/.test(document.querySelector('figure.in b').innerText)");
    let mut lines = std::collections::HashSet::new();
    until("the plot moves", || {
        lines.insert(browser.run(LINE).as_str().unwrap().to_owned());
        lines.len() >= 4
    });
    let label = browser.run("return document.querySelector('figure.in svg').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().starts_with("Bit rate from the encoder: "), "{label}");

    let link = "getComputedStyle(document.getElementById('link')).color";
    let badge = "getComputedStyle(document.querySelector('[data-state=STATE] .badge'))";
    let good = format!("{}.color", badge.replace("STATE", "pushed"));
    assert_eq!(browser.run(&format!("return {good} !== {link}")), true, "a page that is connected does not look live");
    let state = |state| format!("return document.querySelector('[data-state={state}] .badge').innerText");
    assert_eq!((browser.run(&state("pushed")), browser.run(&state("idle"))), ("Live".into(), "Idle".into()));
    assert_eq!(browser.run("return document.getElementById('sum-live').innerText"), "1");

    drop(player);
    browser.until("the player has gone", "return !/\\b1 player\\b/.test(document.body.innerText)");
    drop(encoder);
    browser.until("the end", &format!("return !({})", ON_AIR.trim_start_matches("return ")));
    is_quiet(&browser, &server);
}

/// The URLs of a point can be copied, over plain HTTP from elsewhere too, where browsers give pages no clipboard.
#[test]
fn urls_are_copied() {
    let server = server(&["concert"]);
    let browser = watching(&server);
    browser.allow_clipboard();
    let address = server.addr();
    let urls = [
        format!("http://{address}/concert"),
        format!("mmsh://{address}/concert"),
        format!("http://{address}/concert?format=asf"),
    ];
    browser.until("the URLs", "return document.querySelectorAll('.urls li').length === 3");
    for (index, url) in urls.iter().enumerate() {
        for withheld in [false, true] {
            if withheld {
                browser.run("navigator.clipboard.writeText = () => Promise.reject(new Error('withheld'))");
            }
            browser
                .run("document.querySelectorAll('.urls button').forEach((button) => { button.textContent = 'Copy'; })");
            browser.click(&format!(".urls li:nth-child({}) button", index + 1));
            let copied = format!("return document.querySelectorAll('.urls button')[{index}].innerText === 'Copied'");
            browser.until("the button has copied", &copied);
            assert_eq!(browser.run("return navigator.clipboard.readText()"), url.as_str());
            browser.run("delete navigator.clipboard.writeText");
        }
    }
    is_quiet(&browser, &server);
}

/// What an operator must see: relays that fail, encoders that are away or silent, and wrong passwords.
#[test]
fn trouble_is_shown() {
    let bob = AccessPolicy::new("bob:push:0786f66609ee7d38256a25b55563aa64\n".parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let everybody = PointConfig { write: Principals::Everybody, ..PointConfig::default() };
    let mut config = Config::with_points(["concert", "interview", "news", "studio"], &everybody);
    config.points.get_mut("concert").unwrap().forward = vec![RelayConfig::to("http://127.0.0.1:9/concert").unwrap()];
    config.points.get_mut("concert").unwrap().record = Some(folder.path().to_owned());
    config.points.get_mut("studio").unwrap().write = Principals::Users;
    config.users = Some(bob);
    let server = Server::spawn(config).unwrap();
    let browser = watching(&server);
    let point = |name: &str| {
        format!(
            "[...document.querySelectorAll('.point')].find((point) => point.querySelector('h2').innerText === '{name}')"
        )
    };
    let is = |name: &str, health: &str| format!("return {}.dataset.health === '{health}'", point(name));
    assert_eq!(browser.run("return document.querySelectorAll('[data-health=live]').length"), 0);
    browser.until("all are idle", "return document.querySelectorAll('[data-health=idle]').length === 4");
    assert_eq!(browser.run("return document.getElementById('logins').hidden"), true);

    let _encoder = Encoder::start(server.addr(), "concert", AGENT, header("Summer concert", "City radio"));
    browser.until("the relay fails", &is("concert", "warn"));
    let text = |name: &str| browser.run(&format!("return {}.textContent", point(name))).as_str().unwrap().to_owned();
    assert!(text("concert").contains("Live, with problems"), "{}", text("concert"));
    let in_errors = format!(
        "return [...{}.querySelectorAll('.errors li')].some((error) => error.textContent.includes('relay to http://127.0.0.1:9/concert failed'))",
        point("concert")
    );
    browser.until("the failure is in the list of errors", &in_errors);
    browser
        .until("the free disk space", &format!("return / of disk space free/.test({}.textContent)", point("concert")));
    let link = "document.querySelector('.files a')";
    browser.until("the recording", &format!("return {link} !== null"));
    let size = browser.run(&format!(
        "return fetch({link}.href).then((answer) => answer.arrayBuffer()).then((bytes) => bytes.byteLength)"
    ));
    assert!(size.as_u64() > Some(1000), "{size}");

    let away = Encoder::start(server.addr(), "news", AGENT, header("News at eight", ""));
    browser.until("the news", &is("news", "live"));
    away.break_off();
    browser.until("it is away", &is("news", "waiting"));
    let words = text("news");
    assert!(words.contains("Waiting for the encoder since ") && words.contains("The session ends at "), "{words}");

    let (mut silent, id) = Wire::set_up(server.addr(), Push::to("interview").agent(AGENT));
    silent.start(Push::to("interview").id(&id), [Packet::Header(header("Interview", ""))]);
    browser.until("it is silent", &is("interview", "bad"));
    assert!(text("interview").contains("no data from the encoder for 1"), "{}", text("interview"));
    assert_eq!(browser.run("return document.getElementById('sum-live').innerText"), "1", "the concert");

    let basic = |password: &str| format!("Authorization: Basic {password}\r\n");
    let studio = Push::to("studio").agent(AGENT);
    assert_eq!(Wire::to(server.addr()).setup(studio.further(&basic("Ym9iOmh1c2g=")), "").status, 401);
    browser.until("the failed login", "return /^1 failed login. The latest: .* from 127.0.0.1 as “bob”, for .studio$/.test(document.getElementById('logins').innerText)");
    assert_eq!(Wire::to(server.addr()).setup(studio.further(&basic("Ym9iOnNlY3JldA==")), "").status, 204);
    browser.until("the user", &format!("return {}.querySelector('.user').innerText === 'bob'", point("studio")));

    let _player = Player::start(server.addr(), "concert", "NSPlayer/11.0.5721.5262 WMFSDK/11.0", false);
    browser.until("the player", "return /\\b1 player\\b/.test(document.body.innerText)");
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })");
    for (look, name) in
        [(DESKTOP, "trouble-light"), (Viewport { dark: true, ..DESKTOP }, "trouble-dark"), (PHONE, "trouble-phone")]
    {
        browser.look(look);
        let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
        browser.until(&format!("nothing sticks out: {name}"), fits);
        let poor = browser.run(CONTRAST);
        assert_eq!(poor, serde_json::json!([]), "of little contrast: {name}");
        screenshot(&browser, name);
    }
    is_quiet(&browser, &server);
}

/// S-13: with AutoDestroy a publishing point is created for a push and removed with it; the page updates without being
/// reloaded.
#[test]
fn points_come_and_go() {
    let server = server(&["template"]);
    let browser = watching(&server);
    browser.run("window.same = true");
    let count = |count| format!("return document.querySelectorAll('.point').length === {count}");
    browser.until("the template", &count(1));
    let encoder = Encoder::from_template(server.addr(), "tonight", "/template", AGENT, header("Tonight", ""));
    browser.until("the new point", &count(2));
    browser.until("its push", ON_AIR);
    drop(encoder);
    browser.until("its end", &count(1));
    assert_eq!(browser.run("return window.same"), true);
    is_quiet(&browser, &server);
}

#[test]
fn a_hostile_text_stays_text() {
    let server = server(&["concert<b>x</b>"]);
    let script = "<img src=x onerror=\"window.hurt=1\"><script>window.hurt=1</script>";
    let agent = format!("{AGENT} {script}");
    let browser = watching(&server);
    let _encoder = Encoder::start(server.addr(), "concert%3Cb%3Ex%3C/b%3E", &agent, header(script, script));
    browser.until("the push", ON_AIR);
    let _player = Player::start(server.addr(), "concert%3Cb%3Ex%3C/b%3E", script, false);
    browser.until("the player", "return /\\b1 player\\b/.test(document.body.innerText)");
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })");
    let shown = format!("return document.body.innerText.split({}).length === 5", serde_json::json!(script));
    browser.until("title, author and both agents, as they are", &shown);
    assert!(browser.text().contains("concert<b>x</b>"));
    assert_eq!(browser.run("return document.querySelectorAll('main img, main b b, main script').length"), 0);
    assert_eq!(browser.run("return window.hurt === undefined"), true);
    is_quiet(&browser, &server);
}

#[test]
fn a_lost_server_is_reported() {
    let server = server(&["concert"]);
    let browser = watching(&server);
    server.stop();
    browser.until(
        "the alarm",
        "return /No answer from the server since/.test(document.getElementById('alarm').innerText)",
    );
    assert!(browser.text().contains("concert"), "the last known state stays");
}

/// The disconnect button: the first click asks for confirmation, the second disconnects (S-15).
#[test]
fn s15_the_encoder_is_disconnected() {
    let server = server(&["concert"]);
    let browser = watching(&server);
    let encoder = Encoder::start(server.addr(), "concert", AGENT, header("", ""));
    browser.until("the push", ON_AIR);
    let button = "document.querySelector('[data-button=disconnect]')";
    browser.run(&format!("{button}.click()"));
    assert_eq!(browser.run(&format!("return {button}.innerText")), "Really disconnect?");
    assert!(server.stats("concert").unwrap().pushing);
    browser.run(&format!("{button}.click()"));
    assert_eq!(encoder.termination_status(), 403);
    browser.until("the error", "return /ended by an operator/.test(document.body.textContent)");
    is_quiet(&browser, &server);
}

/// Saves a picture of the page in the folder in the environment variable STATUS_PAGE_PICTURES, if it is set.
fn screenshot(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("STATUS_PAGE_PICTURES") {
        browser.screenshot(&std::path::Path::new(&folder).join(format!("{name}.png")));
    }
}

/// The page fits the width of any screen, in light and dark mode, with sufficient contrast.
#[test]
fn it_fits_every_screen() {
    let long = format!("live/{}", "a-name-without-an-end-".repeat(8));
    // One server that accepts the stream, and one that does not exist.
    let further = server(&["concert"]);
    let mut config = Config::with_points(["concert", &long, "quiet"], &PointConfig::default());
    let forwards = [format!("http://{}/", further.addr()), format!("http://127.0.0.1:9/{long}")];
    let forwards = forwards.map(|url| RelayConfig::to(&url).unwrap());
    config.points.get_mut("concert").unwrap().forward = forwards.into();
    let server = Server::spawn(config).unwrap();
    let browser = watching(&server);
    let title = "A title of many words that goes on and on ".repeat(6);
    let _encoders = [
        Encoder::start(server.addr(), "concert", AGENT, header("Summer concert", "City radio")),
        Encoder::start(server.addr(), &long, &format!("{AGENT} {}", "x".repeat(200)), header(&title, "")),
    ];
    browser.until("the pushes", "return document.querySelectorAll('.point .chips li:first-child').length === 2");
    let _players: Vec<_> = (0..50)
        .map(|_| Player::start(server.addr(), "concert", "NSPlayer/11.0.5721.5262 WMFSDK/11.0", false))
        .collect();
    browser.until("the players", "return /\\b50 players\\b/.test(document.body.innerText)");
    browser
        .until("the forwards", "return document.body.innerText.includes('Relayed to 2 servers, 1 of them streaming')");
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })");
    if std::env::var_os("STATUS_PAGE_PICTURES").is_some() {
        std::thread::sleep(std::time::Duration::from_secs(25));
    }
    for width in [320, PHONE.width, 700, DESKTOP.width, 2560] {
        for dark in [false, true] {
            browser.look(Viewport { dark, width, ..DESKTOP });
            let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
            browser.until(&format!("everything fits at {width} pixels"), fits);
            let poor = browser.run(CONTRAST);
            assert_eq!(poor, serde_json::json!([]), "insufficient contrast, dark: {dark}, at {width} pixels");
            screenshot(&browser, &format!("{width}-{}", if dark { "dark" } else { "light" }));
        }
    }
    is_quiet(&browser, &server);
}

/// Returns the texts whose contrast with their background is below 4.5, as defined by WCAG.
const CONTRAST: &str = r#"
    const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = (colour) => parts(colour).slice(0, 3)
        .map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if ((parts(colour)[3] ?? 1) > 0) return colour;
        }
    };
    const poor = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const [one, other] = [light(element.namespaceURI.endsWith('svg') ? style.fill : style.color), light(behind(element))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) poor.push(`${element.tagName} ${element.className} ${element.textContent} ${contrast}`);
    }
    return poor;
"#;
