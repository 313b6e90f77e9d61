/* limits.h - every cap in one place */
#pragma once

#define LOG_GUEST_MAX    16           /* messages a guest-provoked log site may print */
#define VCPUS_MAX        64           /* vCPUs in a VM */
#define RAM_MIN          (1ull << 20) /* bytes */
#define RAM_MAX          (1ull << 40) /* bytes */
#define CMDLINE_MAX      4096         /* bytes of kernel command line, NUL included */
#define BUS_REGIONS_MAX  256          /* regions on one bus */
#define MEM_SLOTS_MAX    64           /* RAM and ROM slots in a VM */
#define SNAP_RECORDS_MAX 4096         /* records in a snapshot stream */
#define SNAP_RECORD_MAX  (1u << 24)   /* payload bytes of one record (RAM goes elsewhere) */
#define SNAP_NAME_MAX    32           /* bytes of a record or field name, NUL included */
#define GSI_COUNT        24           /* IOAPIC pins */

/* A periodic timer of the guest fires at most this often, whatever the guest programs; what it
 * misses is coalesced (dev/tick.h). */
#define TIMER_MIN_NS      20000ull
#define TICK_BACKLOG_MAX  32   /* missed periodic ticks that are made up for */
#define FWCFG_ITEMS_MAX   128  /* fw_cfg keys and files */
#define FWCFG_NAME_MAX    56   /* bytes of a fw_cfg file name, NUL included (ABI) */
#define DEBUG_PORTS_MAX   4    /* write-only debug ports on a board */
#define PCI_SLOTS         32   /* devices on PCI bus 0 */
#define PCI_MSIX_MAX      64   /* MSI-X vectors of a function */
#define VIRTQ_SIZE_MAX    1024 /* entries of a virtqueue */
#define VIRTQ_CHAIN_MAX   1024 /* descriptors in a chain, indirect ones included */
#define IRQFDS_MAX        512  /* messages that eventfds send, in a VM */
#define VIRTIO_QUEUES_MAX 64   /* queues of a device */
#define VIRTIO_CONFIG_MAX 1024 /* bytes of a device's configuration */
#define VIRTIO_TURN_MAX   1024 /* chains of a queue that are served before others get a turn */

/* Shared folders (9p) */
#define SHARES_MAX         8           /* of a machine */
#define P9_TAG_MAX         32          /* bytes of the name a guest mounts a share by */
#define P9_FIDS_MAX        65536       /* fids of a share */
#define P9_FDS_MAX         131072      /* descriptors of a share, when the host lets it have them */
#define P9_MSIZE_MIN       4096        /* bytes of a message */
#define P9_MSIZE_MAX       (512 << 10) /* bytes of a message */
#define P9_HEAD_MAX        8192        /* bytes of a message without the data of reads and writes */
#define P9_DIRENTS_BYTES   32768       /* directory entries read from the host at once */
#define P9_XATTR_BYTES_MAX (1 << 20)   /* attribute values held by the fids of a share */

/* Small virtio devices */
#define RNG_REQUEST_MAX     4096    /* bytes of entropy for one request */
#define CONSOLE_PORTS_MAX   16      /* ports of a virtio console; two queues each */
#define CONSOLE_NAME_MAX    64      /* bytes of a port's name */
#define CONSOLE_INPUT       4096u   /* bytes of input that wait for the guest, a port */
#define BALLOON_REQUEST_MAX 65536   /* pages in one balloon request */
#define VSOCK_CONNS_MAX     256     /* connections of a socket device */
#define VSOCK_BUFFER        131072u /* bytes a connection keeps for a slow program of the host */
#define VSOCK_PACKET_MAX    65536u  /* bytes of payload in one packet */
#define VSOCK_PATH_BYTES    108     /* bytes of the path of a socket device, NUL included */

/* Networks */
#define NICS_MAX        8          /* network interfaces of a machine */
#define FORWARDS_MAX    64         /* ports that lead into the guest */
#define NET_QUEUE_BYTES (4u << 20) /* frames that wait for a guest without room */
#define SLIRP_FDS_MAX   1024       /* sockets of a guest's user-mode network */

/* Disks */
#define AIO_THREADS_MAX    4            /* worker threads of a disk */
#define AIO_RING_ENTRIES   128          /* of a disk's io_uring */
#define DISKS_MAX          16           /* disks of a machine */
#define BLK_QUEUES_MAX     4            /* queues of a virtio-blk */
#define BLK_REQUESTS_MAX   128          /* requests of a virtio-blk in flight */
#define BLK_SEGS_MAX       254          /* data pieces of a request */
#define BLK_RANGES_MAX     16           /* ranges in a discard or write-zeroes request */
#define BLK_SERIAL_MAX     20           /* bytes of a serial number (ABI) */
#define QCOW2_TABLE_MAX    (32u << 20)  /* bytes of an L1 or refcount table of a qcow2 file */
#define QCOW2_CLUSTERS_MAX (1ull << 30) /* clusters of a qcow2 file that are checked */
#define QCOW2_FREED_MAX    (1u << 20)   /* clusters of a qcow2 file that wait for their next use */
#define QCOW2_STEP_BYTES   (64u << 20)  /* by which a qcow2 file grows */
#define QCOW2_CHAIN_MAX    16           /* images over each other */
