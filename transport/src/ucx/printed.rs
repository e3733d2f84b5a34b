//! What UCX tells only by printing: its words as a string, and the lanes in them.
//!
//! It never decides anything; a line that is not understood is left out.

use std::io;

use ucx_sys::FILE;

/// What is printed into a stream.
pub(super) fn printed(print: impl FnOnce(*mut FILE)) -> io::Result<String> {
    let (mut text, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: a stream into memory that the C library allocates; both locals outlive it.
    let stream = unsafe { libc::open_memstream(&raw mut text, &raw mut len) };
    if stream.is_null() {
        return Err(io::Error::last_os_error());
    }
    print(stream.cast());
    // SAFETY: the stream is ours and is closed once, which sets text and length; the text is then ours to free.
    unsafe {
        libc::fclose(stream);
        let printed = std::slice::from_raw_parts(text.cast::<u8>(), len);
        let printed = String::from_utf8_lossy(printed).into_owned();
        libc::free(text.cast());
        Ok(printed)
    }
}

/// Transports and devices, each once, in what UCX prints of an endpoint: `lane[0]:  3:tcp/lo.0 md[1] -> ...`.
pub(super) fn chosen(endpoint: &str) -> Vec<&str> {
    let mut lanes: Vec<&str> = endpoint
        .lines()
        .filter_map(|line| line.split_once("lane[")?.1.split_once("]:"))
        .filter_map(|(_, rest)| rest.split_whitespace().next())
        .filter(|lane| lane.contains('/')) // not the one that only made the connection
        .map(|lane| lane.split_once(':').map_or(lane, |(_, lane)| lane))
        .map(|lane| lane.rsplit_once('.').map_or(lane, |(lane, _)| lane))
        .collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_found_in_what_is_printed() {
        let text = "#\n#     peer: x\n#       lane[0]:  3:tcp/lo.0 md[1]   -> md[1]/tcp am am_bw#0\n\
                    #       lane[1]:  3:tcp/lo.0 md[1]   -> md[1]/tcp am_bw#1\n#  lane[2]: cm tcp\n#  lane[3]: 5:rc_mlx5/mlx5_0:1.0 md[2]\n";
        assert_eq!(chosen(text), ["rc_mlx5/mlx5_0:1", "tcp/lo"]);
        assert!(chosen("nothing of the kind").is_empty());
    }

    #[test]
    fn what_is_printed_comes_back() {
        // SAFETY: a closed string into an open stream.
        let text = printed(|stream| unsafe {
            libc::fputs(c"said".as_ptr(), stream.cast());
        });
        assert_eq!(text.ok().as_deref(), Some("said"));
    }
}
