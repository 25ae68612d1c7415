//! A private key that is done with is nowhere in the memory of its process.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use pkcs8::SecretDocument;
use secrecy::SecretString;
use serde_json::json;
use tasks::jwt::{Algorithm, SigningKey, VerificationKey};

/// What is looked for is kept in another form, or it would be found here.
const MASK: u8 = 0x5a;
const LENGTH: usize = 24;

/// A part of a private key.
struct Needle([u8; LENGTH]);

impl Needle {
    fn new<'a>(part: impl Iterator<Item = &'a u8>) -> Self {
        let mut masked = [0; LENGTH];
        for (to, from) in masked.iter_mut().zip(part) {
            *to = from ^ MASK;
        }
        Self(masked)
    }

    fn is_at(&self, memory: &[u8]) -> bool {
        memory.iter().zip(&self.0).all(|(byte, masked)| byte ^ MASK == *masked)
    }
}

/// The forms in which it lies in memory: as bytes, as limbs of a number, as text.
fn needles(key: &SigningKey) -> [Needle; 3] {
    let pem = key.to_pem(None).unwrap();
    let (_, document) = SecretDocument::from_pem(&pem).unwrap();
    // The private number of an elliptic curve is 36 bytes in, that of RSA behind the public one.
    let from = if key.algorithm() == Algorithm::Rs256 { 400 } else { 38 };
    let bytes = &document.as_bytes()[from..from + LENGTH];
    let text = &pem.lines().nth(1).unwrap().as_bytes()[60 - LENGTH..60];
    [Needle::new(bytes.iter()), Needle::new(bytes.iter().rev()), Needle::new(text.iter())]
}

/// How often each of them is in the memory that this process may write to.
fn found(needles: &[Needle]) -> Vec<usize> {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut part = vec![0; 1 << 20];
    let own = part.as_ptr().addr() as u64..part.as_ptr().addr() as u64 + part.len() as u64;
    let mut begins = [false; 256];
    for needle in needles {
        begins[usize::from(needle.0[0] ^ MASK)] = true;
    }
    let mut found = vec![0; needles.len()];
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [mut at, end] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        while at < end {
            let wanted = part.len().min((end - at) as usize);
            // The kernel's own pages cannot be read.
            let Ok(length @ LENGTH..) = memory.read_at(&mut part[..wanted], at) else { break };
            for (offset, byte) in part[..=length - LENGTH].iter().enumerate() {
                if !begins[usize::from(*byte)] || own.contains(&(at + offset as u64)) {
                    continue;
                }
                for (needle, found) in needles.iter().zip(&mut found) {
                    *found += usize::from(needle.is_at(&part[offset..]));
                }
            }
            part.fill(0);
            // Again from where one may begin that ends in the next part.
            at += (length - LENGTH + 1) as u64;
        }
    }
    found
}

/// Whatever calls have left below this one: the next calls write over it.
#[inline(never)]
fn overwrite_the_stack() {
    black_box(&mut [0u8; 256 * 1024]);
}

/// Everything that is done with a private key.
#[inline(never)]
fn use_up(key: SigningKey) {
    let password = SecretString::from("correct horse");
    let public = VerificationKey::from_pem(&key.public_pem().unwrap()).unwrap();
    let plain = key.to_pem(None).unwrap();
    let encrypted = key.to_pem(Some(&password)).unwrap();
    drop(key);
    SigningKey::from_pem(&plain, None).unwrap().prove(&public).unwrap();
    let read = SigningKey::from_pem(&encrypted, Some(&password)).unwrap();
    read.prove(&public).unwrap();
    read.sign("kid", &json!({"sub": "ada"})).unwrap();
}

#[test]
fn a_private_key_that_is_done_with_is_nowhere_in_memory() {
    let algorithms = [Algorithm::Es256, Algorithm::Es384, Algorithm::Rs256];
    let keys = algorithms.map(|algorithm| SigningKey::generate(algorithm).unwrap());
    let needles: Vec<Needle> = keys.iter().flat_map(needles).collect();
    assert_eq!(found(&needles), [1, 0, 0, 1, 0, 0, 1, 0, 0], "as bytes, as limbs, as text");

    for key in keys {
        use_up(key);
    }
    overwrite_the_stack();

    assert_eq!(found(&needles), [0; 9], "as bytes, as limbs, as text");
}
