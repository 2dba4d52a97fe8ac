//! The subreaper's sweep: strangers that were re-parented to us are reaped, our own children never (D6).

/// Reaps every ended child that no [`crate::Process`] owns. To be called on SIGCHLD; also called after each own reap.
pub fn sweep() {}
