//! Headless Chromium, controlled through its driver. This is not part of `support`, because the driver's crate
//! implements `Add` for `String`, after which `+ &text` no longer compiles elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{Capabilities, ChromiumLikeCapabilities, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver};
use tokio::runtime::Runtime;

use crate::daemon::{self, Daemon};
use crate::peer::TEST_TIMEOUT;

/// A Chromium window, which closes on drop.
pub struct Browser {
    runtime: Runtime,
    driver: Option<WebDriver>,
    _daemon: Daemon,
    _folder: TempDir,
}

/// How a page is displayed.
#[derive(Clone, Copy)]
pub struct Viewport {
    pub dark: bool,
    /// CSS pixels.
    pub width: u32,
    pub height: u32,
}

pub const DESKTOP: Viewport = Viewport { dark: false, width: 1280, height: 900 };
pub const PHONE: Viewport = Viewport { dark: false, width: 375, height: 812 };

impl Browser {
    pub fn start() -> Self {
        let folder = daemon::folder();
        let daemon = Daemon::start(&folder.path().join("log"), |address| {
            vec![daemon::program("chromedriver"), format!("--port={}", address.port())]
        });
        let mut wanted = DesiredCapabilities::chrome();
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update \
                     --disable-background-networking --disable-sync --disable-dev-shm-usage --no-proxy-server \
                     --hide-scrollbars";
        for flag in flags.split_whitespace().chain([profile.as_str()]) {
            wanted.add_arg(flag).unwrap();
        }
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All).unwrap();
        // The driver's client initializes TLS although it is not used here; another test may have done so already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().unwrap();
        let url = format!("http://{}", daemon.address);
        let driver = runtime.block_on(connect(&url, wanted.into()));
        Self { runtime, driver: Some(driver), _daemon: daemon, _folder: folder }
    }

    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.driver().goto(url)).unwrap();
    }

    /// Returns the result of this script, which is the body of a function.
    pub fn run(&self, script: &str) -> Value {
        self.runtime.block_on(self.driver().execute(script, vec![])).unwrap().json().clone()
    }

    /// Waits until the script returns `true`.
    pub fn until(&self, what: &str, script: &str) {
        let end = std::time::Instant::now() + TEST_TIMEOUT;
        while self.run(script) != Value::Bool(true) {
            assert!(
                std::time::Instant::now() < end,
                "in vain: {what}\n{}",
                self.run("return document.body.innerText").as_str().unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the visible text.
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap().to_owned()
    }

    pub fn look(&self, look: Viewport) {
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.send("Emulation.setEmulatedMedia", media);
        let (width, height) = (look.width, look.height);
        let phone = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.send("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Lets pages read and write the clipboard.
    pub fn allow_clipboard(&self) {
        self.send(
            "Browser.grantPermissions",
            json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] }),
        );
    }

    /// Clicks as a reader does, which a page may need for what only its reader may want.
    pub fn click(&self, selector: &str) {
        let click = async {
            let element = self.driver().find(thirtyfour::By::Css(selector)).await?;
            element.click().await
        };
        self.runtime.block_on(click).unwrap();
    }

    /// Saves the whole page as a PNG file.
    pub fn screenshot(&self, file: &std::path::Path) {
        use base64::Engine;
        let picture = self.send("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let bytes = base64::prelude::BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// Returns the console messages since the last call, including errors of the page.
    pub fn console(&self) -> Vec<String> {
        let entries = self.runtime.block_on(self.driver().browser_log()).unwrap();
        entries.into_iter().map(|entry| format!("{} {}", entry.level, entry.message)).collect()
    }

    /// Returns the URLs that the page has fetched. Requests that its policy forbids appear on the console.
    pub fn fetched(&self) -> Vec<String> {
        let urls = self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
        urls.as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_owned()).collect()
    }

    fn send(&self, method: &str, parameters: Value) -> Value {
        self.runtime.block_on(self.driver().cdp().send_raw(method, parameters)).unwrap()
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().unwrap()
    }
}

async fn connect(url: &str, wanted: Capabilities) -> WebDriver {
    WebDriver::new(url, wanted).await.unwrap()
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            let _ = self.runtime.block_on(driver.quit());
        }
    }
}
