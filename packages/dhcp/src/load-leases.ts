import { readFile } from "node:fs/promises";
import { isMissing } from "./durable-file.ts";
import { Journal, type JournalOptions, readJournalFile } from "./journal.ts";
import type { AddressRecord, EngineState, Lease } from "./lease.ts";
import { type FileLease, parseLeases, readLeasesFile } from "./leases-file.ts";
import { identityOf } from "./request.ts";

export interface LoadOptions extends JournalOptions {
  readonly journalPath: string;
  readonly leasesFilePath: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface LoadedLeases {
  /** Open; holds all of `state`. */
  readonly journal: Journal;
  readonly state: EngineState;
  /** Leases that were taken over from `leases.json`. */
  readonly adopted: readonly Lease[];
  /** Bytes of a torn last write that were cut off the journal. They were never acknowledged. */
  readonly cutBytes: number;
  /** Entries of `leases.json` that do not parse or have expired. */
  readonly skipped: number;
}

/**
 * Opens the journal and merges `leases.json` into it (G9): what that program, or an earlier one of ours, granted
 * and the journal does not know is adopted, so that ours can take a node over in place.
 *
 * @throws {CorruptError} when either file is damaged; it is kept aside under another name
 */
export async function loadLeases(options: LoadOptions): Promise<LoadedLeases> {
  const file = await readLeasesFile(options.leasesFilePath);
  const { journal, state, cutBytes } = await Journal.open(options.journalPath, options);
  try {
    const live = file.leases.filter(({ expiry }) => expiry > options.now);
    const adopted = adopt(state, live);
    const added = adopted.map((lease): AddressRecord => ({ state: "leased", ...lease }));
    await journal.append(added);
    return {
      journal,
      state: { seq: state.seq + adopted.length, records: [...without(state, adopted), ...added] },
      adopted,
      cutBytes,
      skipped: file.skipped + file.leases.length - live.length,
    };
  } catch (error) {
    await journal[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * The live leases by journal and `leases.json`, both left as they are: also while a daemon is writing them. A lease is in
 * the journal before its guest hears of it (G2).
 *
 * @throws {CorruptError} when either file is damaged
 */
export async function leasesOnDisk(
  options: Omit<LoadOptions, keyof JournalOptions>,
): Promise<readonly Lease[]> {
  const { journalPath, leasesFilePath, now } = options;
  const state = await readJournalFile(journalPath);
  const { leases } = parseLeases(await textOf(leasesFilePath), leasesFilePath);
  const adopted = adopt(
    state,
    leases.filter(({ expiry }) => expiry > now),
  );
  const known = without(state, adopted).filter((record) => record.state === "leased");
  return [...known.filter(({ expiry }) => expiry > now), ...adopted];
}

/** What the journal says of the addresses that are not adopted. */
function without({ records }: EngineState, adopted: readonly Lease[]): AddressRecord[] {
  const taken = new Set(adopted.map(({ ip }) => ip));
  return records.filter(({ ip }) => !taken.has(ip));
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return "[]";
    throw error;
  }
}

/**
 * Which entries tell something that the journal does not know: an address it has no newer lease of, for a client it
 * has no newer lease of. Their expiry orders them, for all leases last equally long. An entry that the journal
 * ended itself has the expiry of the ended lease, so it does not come back.
 */
function adopt(state: EngineState, entries: readonly FileLease[]): Lease[] {
  const byAddress = new Map(state.records.map((record) => [record.ip, record.expiry]));
  const byClient = new Map<string, number>();
  for (const record of state.records) {
    if (record.state !== "leased") continue;
    const client = identityOf(record);
    byClient.set(client, Math.max(record.expiry, byClient.get(client) ?? 0));
  }
  const adopted: Lease[] = [];
  let { seq } = state;
  // The newest first, so that of two entries for one address or one client the newer one is taken.
  for (const { mac, ip, expiry } of entries.toSorted((one, other) => other.expiry - one.expiry)) {
    const client = identityOf({ mac });
    if (expiry <= (byAddress.get(ip) ?? 0) || expiry <= (byClient.get(client) ?? 0)) continue;
    byAddress.set(ip, expiry);
    byClient.set(client, expiry);
    adopted.push({ mac, ip, expiry, seq: ++seq });
  }
  return adopted;
}
