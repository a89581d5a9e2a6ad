import { CorruptError, InvalidError, parseAddress } from "@cocoon-net/core";
import { type FileLease, parseLeases } from "./leases-file.ts";

/** A lease as another DHCP server's file tells it. */
export interface FollowedLease extends FileLease {
  readonly hostname?: string;
}

export interface FollowedLeases {
  readonly leases: readonly FollowedLease[];
  /** False when something could not be understood: what is missing from `leases` may still be there (G8). */
  readonly complete: boolean;
}

/** How one DHCP server keeps its leases in files. */
export interface LeaseFileFormat {
  readonly name: LeaseFileFormatName;
  /** The files that hold leases beside the one that is named; its name plus each of these. */
  readonly besides: readonly string[];
  /** The server empties the file and fills it again: for a moment a reader sees a part of it. */
  readonly inPlace: boolean;
  /**
   * @param texts the file's text, then those of `besides`; undefined for what does not exist
   * @throws {CorruptError} when they are not of this format, or half written as a whole
   */
  parse(texts: readonly (string | undefined)[], path: string): FollowedLeases;
}

export const leaseFileFormatNames = ["cocoon", "dnsmasq", "kea"] as const;
export type LeaseFileFormatName = (typeof leaseFileFormatNames)[number];

/** The expiry of a lease without end: the last second that RFC 3339 can write. */
const never = Date.UTC(9999, 11, 31, 23, 59, 59);

const cocoon: LeaseFileFormat = {
  name: "cocoon",
  besides: [],
  inPlace: false,
  parse([text = ""], path) {
    const { leases, skipped } = parseLeases(text, path);
    return { leases, complete: skipped === 0 };
  },
};

/**
 * dnsmasq's lease file: `EXPIRY MAC ADDRESS HOSTNAME CLIENT-ID`, seconds since the epoch, 0 for ever, `*` for none. After a
 * line `duid …` come the leases of IPv6.
 */
const dnsmasq: LeaseFileFormat = {
  name: "dnsmasq",
  besides: [],
  inPlace: true,
  parse([text = ""], path) {
    const lines = text.split("\n");
    let complete = lines.pop() === "";
    // An empty file is what a writer leaves that has come no further (G8): the last lease ends when its time is over.
    if (text === "") return { leases: [], complete: false };
    const leases: FollowedLease[] = [];
    for (const line of lines) {
      if (line.startsWith("duid ")) break;
      const [expiry = "", hwaddr = "", ip = "", hostname = "*"] = line.split(" ");
      const lease = followedLease(hwaddr, ip, hostname === "*" ? "" : hostname);
      if (lease && /^\d+$/.test(expiry)) {
        leases.push({ ...lease, expiry: expiry === "0" ? never : Number(expiry) * 1_000 });
      } else complete = false;
    }
    if (leases.length === 0 && !complete) throw new CorruptError(`${path} is not a lease file of dnsmasq`);
    return { leases, complete };
  },
};

const forEver = 0xffffffff;
const live = 0;

/**
 * Kea's memfile: CSV with a header line; every change of a lease is one more line at the end, the last one counts. Its
 * clean-up moves the file to `.1`, writes what that and `.2` come to into `.completed`, and makes that the new `.2`. What
 * counts is read in the order in which Kea's own start reads it.
 */
const kea: LeaseFileFormat = {
  name: "kea",
  besides: [".1", ".2", ".completed"],
  inPlace: false,
  parse([current, input, previous, completed], path) {
    const found = new Map<string, FollowedLease | undefined>();
    let complete = true;
    let headers = 0;
    for (const text of completed === undefined ? [previous, input, current] : [completed, current]) {
      // The last line may be half written; what it tells is told anew when it is whole.
      const [header, ...rows] = (text ?? "").split("\n").slice(0, -1);
      if (header === undefined) continue;
      const columns = header.split(",");
      const [address, hwaddr, lifetime, expire, hostname, state] = [
        ...["address", "hwaddr", "valid_lifetime", "expire", "hostname", "state"],
      ].map((name) => columns.indexOf(name));
      if (address !== 0 || hwaddr !== 1) throw new CorruptError(`${path} is not a lease file of Kea`);
      headers++;
      for (const row of rows) {
        const fields = row.split(",");
        const field = (at = -1): string => fields[at] ?? "";
        const seconds = /^\d+$/.test(field(lifetime)) ? Number(field(lifetime)) : Number.NaN;
        const until = /^\d+$/.test(field(expire)) ? Number(field(expire)) : Number.NaN;
        if (!isAddress(field(address)) || !(seconds >= 0) || !(until >= 0)) {
          // What was put behind a line that a crash left half written; Kea itself passes over it.
          complete = false;
          continue;
        }
        // Declined, or ended and taken back (states 1 and 2), or released (a lifetime of 0).
        if (Number(field(state)) !== live || seconds === 0) {
          found.set(field(address), undefined);
          continue;
        }
        const lease = followedLease(field(hwaddr), field(address), field(hostname));
        if (!lease) complete = false;
        found.set(field(address), lease && { ...lease, expiry: seconds === forEver ? never : until * 1_000 });
      }
    }
    if (headers === 0) throw new CorruptError(`${path} has no header yet`);
    return { leases: [...found.values()].filter((lease) => lease !== undefined), complete };
  },
};

const formats: readonly LeaseFileFormat[] = [cocoon, dnsmasq, kea];

/** @throws {InvalidError} for a name that is not in {@link leaseFileFormatNames} */
export function leaseFileFormat(name: string): LeaseFileFormat {
  const format = formats.find((one) => one.name === name);
  if (format) return format;
  throw new InvalidError(`"${name}" is not a lease file's format; one of ${leaseFileFormatNames.join(", ")}`);
}

/** The format of a text by how it begins; undefined while there is not enough of it. */
export function detectFormat(text: string): LeaseFileFormat | undefined {
  if (/^\s*(\[|null)/.test(text)) return cocoon;
  if (/^address,hwaddr,.*\n/.test(text)) return kea;
  if (/^(duid |\d+ \S+ \S+ \S+ \S+\n)/.test(text)) return dnsmasq;
  return undefined;
}

function followedLease(
  hwaddr: string,
  ip: string,
  hostname: string,
): Omit<FollowedLease, "expiry"> | undefined {
  const mac = hwaddr.toLowerCase();
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac) || !isAddress(ip)) return undefined;
  return { mac, ip, ...(hostname === "" ? {} : { hostname }) };
}

function isAddress(text: string): boolean {
  try {
    parseAddress(text);
    return true;
  } catch {
    return false;
  }
}
