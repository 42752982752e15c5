"""Buttons: what a person may do about a lane, a provider or a notification as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from clarion.domain.notification import Notification, Status


@dataclass(frozen=True, slots=True)
class Deed:
    """A button: where it sends to, its label, and what pressing it does."""

    path: str
    label: str
    what: str


def steer(word: str, name: str, label: str, what: str = "") -> Deed:
    """Return the button that steers a lane, a provider or its circuit; see `steering.STEERING`."""
    return Deed(f"/steer/{word}/{quote(name, safe='')}", label, what)


def lane_deed(channel: str, is_paused: bool) -> Deed:
    """Return the button of a lane."""
    if is_paused:
        return steer("resume", channel, "Resume", "Send from this lane again.")
    what = "Send nothing from this lane. It goes on accepting, and calls that are out end."
    return steer("pause", channel, "Pause", what)


def provider_deeds(name: str, is_enabled: bool, circuit: str) -> tuple[Deed, ...]:
    """Return the buttons of a provider whose breaker is in the state `circuit`."""
    if not is_enabled:
        return (steer("enable", name, "Enable", "Make calls to it again."),)
    what = "Make no new calls to it. Those that are out end, and the next provider takes over."
    deeds = [steer("disable", name, "Disable", what)]
    if circuit != "forced_open":
        what = "Let no call through, whatever its health, until somebody resets it."
        deeds.append(steer("open", name, "Force open", what))
    if circuit != "disabled":
        what = "Let every call through, however many fail, until somebody resets it."
        deeds.append(steer("close", name, "Hold closed", what))
    if circuit != "closed":
        what = "Close the circuit, forget its failures, and let it work by its own rules."
        deeds.append(steer("reset", name, "Reset", what))
    return tuple(deeds)


def decisions(notification: Notification) -> tuple[Deed, ...]:
    """Return what a person may decide about a notification as it stands."""
    at = f"/notifications/{quote(notification.id, safe='')}"
    dead = f"/dead-letters/{quote(notification.id, safe='')}"
    match notification.status:
        case Status.SCHEDULED | Status.QUEUED:
            return (Deed(f"{at}/cancel", "Cancel", "Do not send it. This cannot be undone."),)
        case Status.SENDING:
            what = "Let the call that is out be the last: whether it arrives is the provider's."
            return (Deed(f"{at}/cancel", "Cancel", what),)
        case Status.UNKNOWN:
            sent = "Take your word that the provider had it: it counts as sent."
            again = "Send it again, marked: the provider may have had it, so it may arrive twice."
            return (
                Deed(f"{at}/sent", "It was sent", sent), Deed(f"{at}/retry", "Send again", again)
            )  # fmt: skip
        case Status.FAILED if notification.discarded_at is None:
            back = "Put it back into its lane, with fresh attempts."
            aside = "Take it off the list of dead letters. It stays failed."
            return (
                Deed(f"{dead}/redrive", "Redrive", back), Deed(f"{dead}/discard", "Discard", aside)
            )  # fmt: skip
        case _:
            return ()
