// RudderStack's SDK, with nothing but the address of Millrace and a key. #url=http://…&key=mk_…[&beacon]
import { RudderAnalytics } from "@rudderstack/analytics-js/bundled";

const given = new URLSearchParams(location.hash.slice(1));
const url = given.get("url");
const beacon = { useBeacon: true, beaconQueueOptions: { maxItems: 100, flushQueueInterval: 600_000 } };
const analytics = new RudderAnalytics();
analytics.load(given.get("key"), url, { configUrl: url, ...(given.has("beacon") ? beacon : {}) });

analytics.ready(() => (document.getElementById("state").textContent = "ready"));
window.identify = (user, traits) => analytics.identify(user, traits);
window.track = (name, properties, options) => analytics.track(name, properties, options);
