//! Notifies the service manager (systemd, or another with its protocol: `NOTIFY_SOCKET`) of what the server does.
//! Without one, nothing is sent.

use std::time::Duration;

/// The service is ready: after its start, and after a reload. `status` is a line for the user.
pub fn ready(status: &str) {
    send(&format!("READY=1\nSTATUS={status}"));
}

/// The service begins to read its configuration again. [`ready`] ends the reload.
pub fn reloading() {
    #[cfg(unix)]
    if let Ok(message) = reload_message() {
        send(&message);
    }
}

/// Type=notify-reload requires both assignments in one message.
#[cfg(unix)]
fn reload_message() -> std::io::Result<String> {
    let now = sd_notify::NotifyState::monotonic_usec_now()?;
    Ok(format!("RELOADING=1\n{now}"))
}

/// The start makes progress, and may take this much more time. `status` is a line for the user.
pub fn starting(status: &str, more_time: Duration) {
    send(&format!(
        "STATUS={status}\nEXTEND_TIMEOUT_USEC={}",
        more_time.as_micros()
    ));
}

/// The service stops, within this time if it is limited.
pub fn stopping(within: Option<Duration>) {
    let mut message = "STOPPING=1\nSTATUS=finishing requests in progress".to_owned();
    if let Some(within) = within {
        message += &format!("\nEXTEND_TIMEOUT_USEC={}", within.as_micros());
    }
    send(&message);
}

/// Proves that tasks of this runtime still run, if the service manager asks for it (`WATCHDOG_USEC`).
pub async fn watchdog() {
    #[cfg(unix)]
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        // sd_watchdog_enabled(3) recommends half of the limit.
        let mut interval = tokio::time::interval(limit / 2);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            send("WATCHDOG=1");
        }
    }
}

#[cfg(unix)]
fn send(message: &str) {
    use std::sync::Once;

    static WARNED: Once = Once::new();
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Custom(message)]) {
        WARNED.call_once(|| {
            tracing::warn!("cannot notify the service manager (NOTIFY_SOCKET): {error}");
        });
    }
}

#[cfg(not(unix))]
fn send(_: &str) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_reload_has_its_time() {
        let time = |message: &str| {
            let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
            time.and_then(|time| time.parse::<u64>().ok()).unwrap()
        };
        let (first, second) = (reload_message().unwrap(), reload_message().unwrap());
        assert!(time(&first) <= time(&second), "{first} {second}");
    }
}
