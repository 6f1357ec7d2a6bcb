// Mixpanel's SDK, with nothing but the address of Millrace and a key. #url=http://…&key=mk_…[&base64]
import mixpanel from "mixpanel-browser";

const given = new URLSearchParams(location.hash.slice(1));
mixpanel.init(given.get("key"), {
  api_host: given.get("url"),
  api_payload_format: given.has("base64") ? "base64" : "json",
  autocapture: false,
  track_pageview: given.has("automatic"),
  batch_flush_interval_ms: 200,
  loaded: () => (document.getElementById("state").textContent = "ready"),
});
window.identify = (user, traits) => {
  mixpanel.identify(user);
  mixpanel.people.set(traits);
};
window.track = (name, properties) => void mixpanel.track(name, properties);
