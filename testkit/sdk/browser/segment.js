// Segment's SDK, with nothing but the address of Millrace and a key. #url=http://…&key=mk_…[&batching]
import { AnalyticsBrowser } from "@segment/analytics-next";

const given = new URLSearchParams(location.hash.slice(1));
const batching = { "Segment.io": { deliveryStrategy: { strategy: "batching", config: { size: 100, timeout: 60_000 } } } };
const options = given.has("batching") ? { integrations: batching } : {};
const analytics = AnalyticsBrowser.load({ writeKey: given.get("key"), cdnURL: given.get("url") }, options);

analytics.ready(() => (document.getElementById("state").textContent = "ready"));
window.identify = (user, traits) => void analytics.identify(user, traits);
window.track = (name, properties, options) => void analytics.track(name, properties, options);
