"""What Spotify's views must hold, in plain Python: from the current rows of gold's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def views(tables: Mapping[str, Iterable[Row]]) -> dict[str, list[dict[str, Any]]]:
    """Compute every view.

    Args:
        tables: The current rows of ``dim_user``, ``dim_artist``, ``dim_track``, ``fact_stream``.
    """
    users, artists, tracks, streams = (
        list(tables[name]) for name in ("dim_user", "dim_artist", "dim_track", "fact_stream")
    )
    by_track = {track["track_id"]: track for track in tracks}
    by_user = {user["user_id"]: user for user in users}
    by_artist = {artist["artist_id"]: artist for artist in artists}
    return {
        "track_popularity": [_track(track, streams) for track in tracks],
        "artist_popularity": [_artist(artist, tracks, streams) for artist in artists],
        "user_engagement": _engagement(streams),
        "dim_albums": _albums(tracks),
        "stream_details": [_details(s, by_user, by_track, by_artist) for s in streams],
    }


def _sums(streams: list[Row]) -> dict[str, Any]:
    seconds = [s["listen_duration"] for s in streams if s["listen_duration"] is not None]
    moments = [s["stream_timestamp"] for s in streams if s["stream_timestamp"] is not None]
    return {
        "streams": len(streams),
        "listeners": len({s["user_id"] for s in streams} - {None}),
        "listen_seconds": sum(seconds),
        "last_streamed_at": max(moments, default=None),
    }


def _track(track: Row, streams: list[Row]) -> dict[str, Any]:
    own = [s for s in streams if s["track_id"] == track["track_id"]]
    return {n: track[n] for n in ("track_id", "track_name", "artist_id")} | _sums(own)


def _artist(artist: Row, tracks: list[Row], streams: list[Row]) -> dict[str, Any]:
    own = {t["track_id"] for t in tracks if t["artist_id"] == artist["artist_id"]}
    played = _sums([s for s in streams if s["track_id"] in own])
    names = {n: artist[n] for n in ("artist_id", "artist_name", "genre")}
    return names | {"tracks": len(own)} | played


def _engagement(streams: list[Row]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, Any], list[Row]] = {}
    for s in streams:
        moment = s["stream_timestamp"]
        day = None if moment is None else moment.date()
        groups.setdefault((day, s["device_type"]), []).append(s)
    found = []
    for (day, device), own in groups.items():
        sums = _sums(own)
        del sums["last_streamed_at"]
        if all(s["listen_duration"] is None for s in own):
            sums["listen_seconds"] = None
        each = None
        if sums["listeners"] and sums["listen_seconds"] is not None:
            each = sums["listen_seconds"] / sums["listeners"]
        found.append({"day": day, "device_type": device, **sums, "seconds_per_listener": each})
    return found


def _albums(tracks: list[Row]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, str], list[Row]] = {}
    for track in tracks:
        if track["album_name"] is not None:
            groups.setdefault((track["artist_id"], track["album_name"]), []).append(track)
    found = []
    for (artist, album), own in groups.items():
        seconds = [t["duration_sec"] for t in own if t["duration_sec"] is not None]
        days = [t["release_date"] for t in own if t["release_date"] is not None]
        found.append(
            {
                "artist_id": artist,
                "album_name": album,
                "tracks": len(own),
                "duration_sec": sum(seconds) if seconds else None,
                "first_released": min(days, default=None),
                "last_released": max(days, default=None),
            }
        )
    return found


def _details(
    stream: Row, users: dict[Any, Row], tracks: dict[Any, Row], artists: dict[Any, Row]
) -> dict[str, Any]:
    user, track = users.get(stream["user_id"], {}), tracks.get(stream["track_id"], {})
    artist = artists.get(track.get("artist_id"), {})
    own = ("stream_id", "stream_timestamp", "device_type", "listen_duration")
    return {
        **{name: stream[name] for name in own},
        "user_name": user.get("user_name"),
        "user_country": user.get("country"),
        "track_name": track.get("track_name"),
        "album_name": track.get("album_name"),
        "artist_name": artist.get("artist_name"),
        "genre": artist.get("genre"),
    }
