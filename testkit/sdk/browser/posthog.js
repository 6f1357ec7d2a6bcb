// PostHog's SDK, with nothing but the address of Millrace and a key.
// #url=http://…&key=mk_…[&automatic][&compression=none|gzip-js|base64]
import posthog from "posthog-js";

const given = new URLSearchParams(location.hash.slice(1));
const automatic = given.has("automatic");
const compression = given.get("compression") ?? "gzip-js";

posthog.init(given.get("key"), {
  api_host: given.get("url"),
  autocapture: automatic,
  capture_pageview: automatic,
  capture_pageleave: automatic,
  // Chromium without a window counts as a robot.
  opt_out_useragent_filter: true,
  disable_compression: compression === "none",
  person_profiles: "always",
});

function show() {
  // The SDK learns from its settings which compressions the server reads.
  if (compression === "none" || posthog.compression) {
    if (compression === "base64") posthog.compression = "base64";
    document.getElementById("state").textContent = "ready";
  } else {
    setTimeout(show, 20);
  }
}
show();
window.identify = (user, traits) => posthog.identify(user, traits);
window.track = (name, properties, options) => posthog.capture(name, properties, options);
