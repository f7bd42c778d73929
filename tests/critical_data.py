"""Critical data of genuine boots: the sealed machine of `swtpm/sealed.py`, by its two kernels.

Cut out of the lists of Debian's 6.1.0-57-cloud-amd64 and 6.12.95+deb12-cloud-amd64, which the tests
of level L4 boot anew.
"""

ROOT_DIGEST = "6041acdd98b4412bf92775882a0eb0abd30d6313356053eca2267900dbc0692d"

TABLE_61, TABLE_612 = (
    f"dm_version={interface};name=root,uuid=,major=253,minor=0,minor_count=1,num_targets=1;"
    "target_index=0,target_begin=0,target_len=806912,target_name=verity,"
    f"target_version={target},hash_failed=V,verity_version=1,data_device_name=254:0,"
    f"hash_device_name=254:0,verity_algorithm=sha256,root_digest={ROOT_DIGEST},salt=-,"
    "ignore_zero_blocks=n,check_at_most_once=n;"
    for interface, target in (("4.47.0", "1.9.0"), ("4.48.0", "1.10.0"))
)
RESUMED_61, RESUMED_612 = (
    f"dm_version={interface};name=root,uuid=,major=253,minor=0,minor_count=1,num_targets=1;"
    f"active_table_hash=sha256:{digest};current_device_capacity=806912;"
    for interface, digest in (
        ("4.47.0", "ac1767e221963278aba26776e9aec1fb6492ce430e474319bec664c7b602636f"),
        ("4.48.0", "75bd41c4c44eec7ccc86bf52454187858f7a6ef5180b383d2f8434b5aa81df1e"),
    )
)
DEVICE = 253 << 8
"""st_dev of the files on it."""

STATE_61 = (
    "initialized=1;enforcing=1;checkreqprot=0;network_peer_controls=0;open_perms=0;"
    "extended_socket_class=0;always_check_network=0;cgroup_seclabel=0;nnp_nosuid_transition=0;"
    "genfs_seclabel_symlinks=0;ioctl_skip_cloexec=0;"
)
STATE_612 = f"{STATE_61}userspace_initial_context=0;"
POLICY_61 = "310628d4677bfa94492d4e3dd4c97ddc425c4e03f4c2f71f72bbee0a8cc4ef39"
POLICY_612 = "d9f31a5922d8ef5e7b7863381b8a476250aa0a38fbdc92ffa2539519a227b14b"
"""SHA-256 of /sys/fs/selinux/policy."""
POLICY_RECORD_612 = "d4d7156f8572a425b02066db3a143913a6e4eac0f1099ef7cf5e5da4d7cdb055"
"""The digest in its record."""


def verity_toml(*tables: str, name: str = "appliance") -> str:
    """Return the reference value that names these tables."""
    listed = ", ".join(f'"{one}"' for one in tables)
    return f'version = 1\nkind = "verity"\nname = "{name}"\ntables = [{listed}]\n'


def confinement_toml(
    *states: str, policies: tuple[str, ...] = (POLICY_612,), name: str = "tpm"
) -> str:
    """Return the reference value that vouches for these policies in these states."""
    digests = ", ".join(f'"sha256:{one}"' for one in policies)
    listed = ", ".join(f'"{one}"' for one in states)
    return (
        f'version = 1\nkind = "confinement"\nname = "{name}"\n'
        f"policies = [{digests}]\nstates = [{listed}]\n"
    )
