// Jitsu's SDK, with nothing but the address of Millrace and a key. #url=http://…&key=mk_…
import { jitsuAnalytics } from "@jitsu/js";

const given = new URLSearchParams(location.hash.slice(1));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// The SDK never sends a call again by itself.
const untilTaken = async (url, request) => {
  for (let attempt = 1; ; attempt++) {
    const answer = await fetch(url, request).catch(() => null);
    if (answer?.ok || attempt === 5) return answer;
    await pause(1000);
  }
};
const client = jitsuAnalytics({ host: given.get("url"), writeKey: `shop:${given.get("key")}`, fetch: untilTaken });
document.getElementById("state").textContent = "ready";
window.identify = (user, traits) => void client.identify(user, traits);
window.track = (name, properties) => void client.track(name, properties);
window.page = (properties) => void client.page(properties);
