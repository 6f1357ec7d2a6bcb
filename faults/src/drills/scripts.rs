//! Calls of the stream's scripts, which a proxy tells apart by keys that only one of them has.

use testkit::chaos::Call;

pub(crate) const ADMISSION: Call = Call::named("EVALSHA").containing(":batch:");
pub(crate) const SETTLE: Call = Call::named("EVALSHA").containing(":attempts");
