//! The slot of a shard in a cluster: CRC-16 (XMODEM) of the hash tag `sN`, modulo 16,384.

const SLOTS: u16 = 16_384;
const POLYNOMIAL: u16 = 0x1021;

/// The slot of all keys of this shard.
pub(super) fn slot_of_shard(shard: u16) -> u16 {
    crc16(format!("s{shard}").as_bytes()) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 { shifted } else { shifted ^ POLYNOMIAL }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_shard_is_the_one_that_redis_computes() {
        // The check value of the specification of Redis Cluster.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        // CLUSTER KEYSLOT {s0}, {s1}, {s15}
        assert_eq!([0, 1, 15].map(slot_of_shard), [11_097, 15_224, 4_362]);
    }
}
