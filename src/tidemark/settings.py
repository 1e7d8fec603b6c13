"""Where this project, its home and its lake are: read once from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemark.azure_url import is_azure, parse
from tidemark.errors import ConfigError
from tidemark.layout import LAYERS, Lake, joined_roots


@dataclass(frozen=True)
class Settings:
    """The places that every command agrees on, all absolute.

    Attributes:
        project: The checkout: the folder of ``dags/``, ``dlt/`` and ``spark_jobs/``.
        home: ``TIDEMARK_HOME``: Airflow's home, the local lake and the sample source.
        config: ``TIDEMARK_CONFIG``: the folder of the metadata files.
        lake: ``TIDEMARK_LAKE``: the lake's root, a folder or a URL; or a URL for each layer, from
            ``TIDEMARK_LAKE_BRONZE``, ``_SILVER`` and ``_GOLD``.
        databricks_prefix: ``TIDEMARK_DATABRICKS_PREFIX``: what a bundle's development mode puts
            before the names of its jobs and pipelines, such as ``[dev jane] ``.
    """

    project: Path
    home: Path
    config: Path
    lake: Lake
    databricks_prefix: str = ""

    @property
    def rules_folder(self) -> Path:
        """The folder of the cleaning rules, a file per source."""
        return self.project / "spark_jobs" / "rules"

    @property
    def jobs_folder(self) -> Path:
        """The folder of the Spark jobs' entry points."""
        return self.project / "spark_jobs"

    @property
    def pipeline_folder(self) -> Path:
        """The folder of the gold pipeline's source files."""
        return self.project / "dlt"

    @property
    def warm_spark_folder(self) -> Path:
        """The folder of the Java machine that waits for the next Spark job on this machine."""
        return self.home / "spark" / "warm"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; relative paths count from the project's folder."""
    env = os.environ if environ is None else environ
    project = _project_folder(env)
    home = project / (env.get("TIDEMARK_HOME") or ".tidemark")
    config = project / (env.get("TIDEMARK_CONFIG") or "config")
    return Settings(
        project=project,
        home=home,
        config=config,
        lake=Lake(_lake_root(env, project, home)),
        databricks_prefix=env.get("TIDEMARK_DATABRICKS_PREFIX") or "",
    )


def _lake_root(env: Mapping[str, str], project: Path, home: Path) -> str:
    whole = env.get("TIDEMARK_LAKE") or str(home / "lake")
    if is_azure(whole):
        # `tidemark env` hands on what it found, which may be a URL for each layer.
        whole = whole if whole.startswith("bronze=") else parse(whole).url
    elif "://" not in whole:
        whole = str(project / whole)
    whole = whole.rstrip("/")
    own = {layer: env.get(f"TIDEMARK_LAKE_{layer.upper()}") for layer in LAYERS}
    if not any(own.values()):
        return whole
    urls = {layer: url or Lake(whole).url(layer) for layer, url in own.items()}
    for layer, url in urls.items():
        if not is_azure(url):
            message = (
                f"TIDEMARK_LAKE_{layer.upper()} is {url!r}: layers of their own must all be URLs "
                "such as abfss://container@account.dfs.core.windows.net/path; set it, or "
                "TIDEMARK_LAKE, to one"
            )
            raise ConfigError(message)
    return joined_roots(**{layer: parse(url).url for layer, url in urls.items()})


def _project_folder(env: Mapping[str, str]) -> Path:
    if env.get("TIDEMARK_PROJECT"):
        return Path(env["TIDEMARK_PROJECT"]).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dags").is_dir() and (folder / "dlt").is_dir():
            return folder
    # An editable installation lies in its checkout's src/.
    return Path(__file__).resolve().parents[2]
