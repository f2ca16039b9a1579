"""The git revision of a folder, read from its files: no program is run, so that no setting of a
repository can run one."""

from __future__ import annotations

import re
from pathlib import Path

HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
REF = re.compile(r"refs/[\w./-]+")


def revision(folder: Path) -> str | None:
    """The commit that is checked out; None outside of a repository."""
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            try:
                return _commit(_git_folder(parent / ".git"))
            except (OSError, ValueError):
                return None
    return None


def _git_folder(entry: Path) -> Path:
    """``.git`` itself, or where the file of that name of a worktree points to."""
    if entry.is_dir():
        return entry
    return entry.parent / entry.read_text(encoding="utf-8").removeprefix("gitdir:").strip()


def _commit(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if HASH.fullmatch(head):
        return head
    ref = head.removeprefix("ref:").strip()
    if not REF.fullmatch(ref) or ".." in ref:
        return None
    common = git
    if (git / "commondir").is_file():
        common = git / (git / "commondir").read_text(encoding="utf-8").strip()
    loose = next((p for p in (git / ref, common / ref) if p.is_file()), None)
    if loose is not None:
        found = loose.read_text(encoding="utf-8").strip()
        return found if HASH.fullmatch(found) else None
    packed = (common / "packed-refs").read_text(encoding="utf-8")
    match = re.search(rf"^([0-9a-f]{{40,64}}) {re.escape(ref)}$", packed, re.MULTILINE)
    return match[1] if match else None
