"""Rank and world size of a training with several processes, started by torchrun or SLURM."""

import os
from dataclasses import dataclass
from typing import Self

from egodepth.core.errors import EgodepthError


@dataclass(frozen=True)
class World:
    """Processes of one training.

    Attributes:
        rank: of this process, from 0; 0 is the main process.
        size: number of processes (the world size).
        local_size: number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @classmethod
    def of_environment(cls) -> Self:
        """Read what torchrun (RANK, WORLD_SIZE, LOCAL_WORLD_SIZE) or srun (SLURM_PROCID, SLURM_NTASKS,
        SLURM_NNODES) set; a single process where neither did.

        Raises:
            EgodepthError: SLURM tasks that are not spread evenly over the machines.
        """
        env = os.environ
        if "TORCHELASTIC_RUN_ID" in env:
            return cls(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"]))
        size = int(env.get("SLURM_NTASKS", 1))
        if size == 1 or "SLURM_PROCID" not in env:
            return cls()
        nodes = int(env.get("SLURM_NNODES", 1))
        if size % nodes:
            raise EgodepthError(
                f"{size} tasks of SLURM on {nodes} nodes: give each node as many (--ntasks-per-node)"
            )
        return cls(int(env["SLURM_PROCID"]), size, size // nodes)

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.size // self.local_size

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes files and messages."""
        return self.rank == 0
