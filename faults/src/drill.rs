//! The parameters of one run of a drill.

use rand::SeedableRng;
use rand::rngs::StdRng;

#[derive(Clone, Debug)]
pub struct Drill {
    /// The name of its row, followed by the name of the mutant if there is one.
    pub name: String,
    /// All randomness of the drill is derived from it.
    pub seed: u64,
    /// The mutant that replaces the product's programs.
    pub mutant: Option<&'static str>,
    /// The Cargo profile whose programs run.
    pub profile: String,
}

impl Drill {
    /// A random number generator for one purpose, independent of those for other purposes.
    pub fn rng(&self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ purpose.rotate_left(32))
    }
}
