// Amplitude's SDK, with nothing but the address of Millrace and a key. #url=http://…&key=mk_…[&automatic]
import * as amplitude from "@amplitude/analytics-browser";

const given = new URLSearchParams(location.hash.slice(1));
const automatic = given.has("automatic");
const options = {
  serverUrl: `${given.get("url")}/2/httpapi`,
  // Its settings are those of the vendor's server.
  fetchRemoteConfig: false,
  remoteConfig: { fetchRemoteConfig: false },
  autocapture: automatic,
  flushIntervalMillis: 100,
};
amplitude.init(given.get("key"), options).promise.then(() => (document.getElementById("state").textContent = "ready"));
window.identify = (user, traits) => {
  amplitude.setUserId(user);
  const set = new amplitude.Identify();
  for (const [name, value] of Object.entries(traits)) set.set(name, value);
  return void amplitude.identify(set);
};
window.track = (name, properties) => void amplitude.track(name, properties);
window.leaving = () => amplitude.setTransport("beacon");
