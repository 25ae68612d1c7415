//! The compressions that kombu knows (`kombu.compression`), bounded.

use std::io::{self, Read, Write};

use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// A compression of bodies and results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A zlib stream, which kombu calls `gzip` too.
    Zlib,
    /// bzip2.
    Bzip2,
    /// An xz container.
    Lzma,
    /// Zstandard.
    Zstd,
    /// Brotli.
    Brotli,
}

/// Why bytes cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// They are not of the compression.
    #[error("the body is not of compression {}: {source}", .compression.mime_type())]
    Corrupt {
        /// What it should be.
        compression: Compression,
        /// What its decoder says.
        source: io::Error,
    },
    /// They stand for too much.
    #[error("the decompressed body is longer than the {limit} bytes that are accepted here")]
    TooLong {
        /// The most that is accepted.
        limit: usize,
    },
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Zlib, Self::Bzip2, Self::Lzma, Self::Zstd, Self::Brotli];

    /// The compression of a header or a setting, by its MIME type or one of kombu's names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.mime_type() == name || known.names().contains(&name))
    }

    /// What kombu's header `compression` says.
    pub fn mime_type(self) -> &'static str {
        match self {
            Self::Zlib => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
            Self::Lzma => "application/x-lzma",
            Self::Zstd => "application/zstd",
            Self::Brotli => "application/x-brotli",
        }
    }

    /// The names that Celery's settings take.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Zlib => &["gzip", "zlib"],
            Self::Bzip2 => &["bzip2", "bzip"],
            Self::Lzma => &["lzma", "xz"],
            Self::Zstd => &["zstd", "zstandard"],
            Self::Brotli => &["brotli"],
        }
    }

    /// The bytes that `compressed` stands for, if they are at most `limit`.
    ///
    /// Takes no more memory than a few times `limit`, whatever the bytes claim.
    pub fn decompress(self, compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        self.read(compressed, limit)
            .map_err(|source| DecompressError::Corrupt { compression: self, source })
            .and_then(|bytes| {
                if bytes.len() > limit {
                    Err(DecompressError::TooLong { limit })
                } else {
                    Ok(bytes)
                }
            })
    }

    /// Reads one byte more than `limit`, if there is one.
    fn read(self, compressed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Zlib => up_to(ZlibDecoder::new(compressed), limit),
            Self::Bzip2 => up_to(bzip2::read::MultiBzDecoder::new(compressed), limit),
            Self::Lzma => {
                // A few bytes may ask for a dictionary of gigabytes; that of Python's default is 8 MiB.
                let kibibytes = u32::try_from(limit >> 10).unwrap_or(u32::MAX).max(64 << 10);
                up_to(lzma_rust2::XzReader::new_mem_limit(compressed, true, kibibytes), limit)
            }
            Self::Zstd => up_to(zstd::stream::read::Decoder::with_buffer(compressed)?, limit),
            Self::Brotli => up_to(brotli::Decompressor::new(compressed, BUFFER), limit),
        }
    }

    /// Compresses at the level that Python's modules use, except that Brotli's is one that a
    /// worker has the time for.
    pub fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Bzip2 => {
                let best = bzip2::Compression::best();
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), best);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Lzma => {
                let options = lzma_rust2::XzOptions::with_preset(6);
                let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options)?;
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Zstd => zstd::stream::encode_all(bytes, zstd::DEFAULT_COMPRESSION_LEVEL),
            Self::Brotli => {
                const QUALITY: u32 = 5;
                const WINDOW: u32 = 22;
                let mut compressed = Vec::new();
                brotli::CompressorReader::new(bytes, BUFFER, QUALITY, WINDOW)
                    .read_to_end(&mut compressed)?;
                Ok(compressed)
            }
        }
    }
}

const BUFFER: usize = 4096;

fn up_to(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take((limit as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let text = "one two one two ".repeat(1000);
        for compression in Compression::ALL {
            let compressed = compression.compress(text.as_bytes()).unwrap();
            assert!(compressed.len() < text.len() / 4, "{compression:?}");
            let back = compression.decompress(&compressed, text.len()).unwrap();
            assert_eq!(back, text.as_bytes(), "{compression:?}");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let bomb = vec![b' '; 1 << 20];
        for compression in Compression::ALL {
            let compressed = compression.compress(&bomb).unwrap();
            let error = compression.decompress(&compressed, (1 << 20) - 1).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the decompressed body is longer than the 1048575 bytes that are accepted here"
            );
        }
    }

    #[test]
    fn an_xz_container_that_asks_for_gigabytes_of_dictionary_is_refused() {
        let mut options = lzma_rust2::XzOptions::with_preset(1);
        options.lzma_options.dict_size = 1 << 30;
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(b"[]").unwrap();
        let error = Compression::Lzma.decompress(&encoder.finish().unwrap(), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("memory too big"), "{error}");
    }

    #[test]
    fn bytes_of_another_kind_and_cut_ones_are_refused_by_name() {
        for compression in Compression::ALL {
            let whole = compression.compress(&[7; 300]).unwrap();
            for bytes in [&b"\xff\xff not compressed"[..], &whole[..whole.len() / 2], b""] {
                let error = compression.decompress(bytes, 1000).unwrap_err().to_string();
                let named = format!("is not of compression {}", compression.mime_type());
                assert!(error.contains(&named), "{error}");
            }
        }
    }

    #[test]
    fn names_are_kombus() {
        for (name, compression) in [
            ("gzip", Compression::Zlib),
            ("application/x-gzip", Compression::Zlib),
            ("xz", Compression::Lzma),
            ("zstandard", Compression::Zstd),
        ] {
            assert_eq!(Compression::from_name(name), Some(compression));
        }
        assert_eq!(Compression::from_name("lz4"), None);
    }
}
