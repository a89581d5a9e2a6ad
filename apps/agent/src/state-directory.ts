import { mkdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  CocoonError,
  CorruptError,
  describeError,
  formatAddress,
  hostRange,
  InvalidError,
  NotFoundError,
  parseCidr,
  type RecordSchema,
  recordSchema as z,
} from "@cocoon-net/core";
import { mustBeFile } from "@cocoon-net/dhcp";
import { replaceFile, syncDirectory } from "./durable-file.ts";
import type { PoolPolicy } from "./pool-policy.ts";

export const defaultStateDirectory = "/var/lib/cocoon/net";

/** `pool.json`, in the format of the program this agent takes over from. */
export interface PoolFile {
  readonly platform: string;
  readonly nodeName: string;
  readonly subnet: string;
  readonly gateway: string;
  readonly primaryNIC?: string;
  readonly secondaryNICs?: readonly string[];
  readonly ips: readonly string[];
  readonly eniIDs?: readonly string[];
  readonly subnetID?: string;
  readonly aliasRangeName?: string;
  readonly dnsServers?: readonly string[];
  readonly dropInternalAccess?: boolean;
  readonly dropCIDRs?: readonly string[];
  /** Set where the pool follows demand; earlier versions do not know it. */
  readonly poolPolicy?: PoolPolicy;
  readonly updatedAt: string;
}

/** `registration.json`: who this node is in a cluster. Absent on a node without a store. */
export interface RegistrationFile {
  readonly node: string;
  /** Written before the node registers, so that a repeat is the same node (G12). */
  readonly uid: string;
  readonly instanceID?: string;
  readonly zone?: string;
  /** The store's URL without secrets, for messages. */
  readonly store: string;
  readonly subnet?: string;
  /** The revision that fences everything the node writes; absent until it has registered. */
  readonly epoch?: number;
  /** The store's incarnation in which that was last proved: in a later one a claim may be missing by accident. */
  readonly incarnation?: string;
  readonly clusterUID?: string;
  /** The range that all nodes' blocks are cut from. */
  readonly parentCIDR?: string;
  /** The cluster's lease time, for when the store cannot be asked. */
  readonly leaseMs?: number;
  /** Set by the daemon when it follows another DHCP server. */
  readonly leaseSource?: string;
  /** When the node found that its subnet had gone to somebody else; its daemon does not start any more (G3). */
  readonly lostAt?: string;
}

const address = z.ipv4();
const strings = z.array(z.string());

/** Go writes an empty list as null. Early versions named no gateway: it was, and is, the first host address. */
const asToday = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const fields = Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));
  if ("gateway" in fields || !z.cidrv4().safeParse(fields.subnet).success) return fields;
  return { ...fields, gateway: formatAddress(hostRange(parseCidr(String(fields.subnet))).first) };
};

const poolSchema: RecordSchema<PoolFile> = z.preprocess(
  asToday,
  z.looseObject({
    platform: z.string(),
    nodeName: z.string(),
    subnet: z.cidrv4(),
    gateway: address,
    primaryNIC: z.exactOptional(z.string()),
    secondaryNICs: z.exactOptional(strings),
    ips: z.array(address).default([]),
    eniIDs: z.exactOptional(strings),
    subnetID: z.exactOptional(z.string()),
    aliasRangeName: z.exactOptional(z.string()),
    dnsServers: z.exactOptional(z.array(address)),
    dropInternalAccess: z.exactOptional(z.boolean()),
    dropCIDRs: z.exactOptional(z.array(z.cidrv4())),
    poolPolicy: z.exactOptional(
      z.looseObject({
        min: z.int().nonnegative(),
        target: z.int().nonnegative(),
        max: z.int().positive(),
        releaseAfterMs: z.int().nonnegative(),
      }),
    ),
    updatedAt: z.string().default("unknown"),
  }),
);

const registrationSchema: RecordSchema<RegistrationFile> = z.looseObject({
  node: z.string(),
  uid: z.string(),
  instanceID: z.exactOptional(z.string()),
  zone: z.exactOptional(z.string()),
  store: z.string(),
  subnet: z.exactOptional(z.string()),
  epoch: z.exactOptional(z.int()),
  incarnation: z.exactOptional(z.string()),
  clusterUID: z.exactOptional(z.string()),
  parentCIDR: z.exactOptional(z.string()),
  leaseMs: z.exactOptional(z.int().positive()),
  leaseSource: z.exactOptional(z.string()),
  lostAt: z.exactOptional(z.string()),
});

/** The files of a node below one directory. */
export class StateDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  get journalPath(): string {
    return join(this.path, "leases.journal");
  }

  get poolPath(): string {
    return join(this.path, "pool.json");
  }

  get registrationPath(): string {
    return join(this.path, "registration.json");
  }

  /** What the set-up has made of the host. */
  get hostPath(): string {
    return join(this.path, "host.json");
  }

  get jobPath(): string {
    return join(this.path, "job.json");
  }

  /** Where the program before this one has it, too; but several nodes' on one machine each have their own. */
  get controlSocketPath(): string {
    return this.path === defaultStateDirectory
      ? "/run/cocoon-net/control.sock"
      : join(this.path, "control.sock");
  }

  /** @throws {InvalidError} when it cannot be made or written. */
  async create(): Promise<void> {
    try {
      await makeDirectory(this.path);
    } catch (cause) {
      throw new InvalidError(`state directory ${this.path} cannot be made: ${describeError(cause)}`, {
        cause,
        hint: "name another --state-dir",
      });
    }
  }

  /** @throws {NotFoundError} when the node was never set up; {@link CorruptError} when the file is damaged. */
  async readPool(): Promise<PoolFile> {
    const pool = await readRecord(this.poolPath, poolSchema);
    if (pool) return pool;
    throw new NotFoundError(`${this.poolPath} does not exist: this node is not set up`, {
      hint: "run `cocoon-net init` or `cocoon-net adopt` first",
    });
  }

  /** The pool as it is, undefined when there is none; a damaged file is moved aside and named in `onAside`. */
  async readPoolOrMoveAside(onAside: (message: string) => void): Promise<PoolFile | undefined> {
    try {
      return await readRecord(this.poolPath, poolSchema);
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error;
      await mustBeFile(this.poolPath);
      const aside = `${this.poolPath}.corrupt-${Date.now()}`;
      await rename(this.poolPath, aside);
      await syncDirectory(this.path);
      onAside(`${error.message}; kept as ${aside}`);
      return undefined;
    }
  }

  async writePool(pool: Omit<PoolFile, "updatedAt">): Promise<PoolFile> {
    const shown = Object.entries(pool).filter(
      ([name, value]) =>
        name !== "updatedAt" &&
        (name === "ips" || !(value === undefined || value === "" || value === false || isEmpty(value))),
    );
    const at = (updatedAt: string): PoolFile =>
      Object.fromEntries([...shown, ["updatedAt", updatedAt]]) as unknown as PoolFile;
    const textOf = (file: PoolFile): string => `${JSON.stringify(file, null, 2)}\n`;
    // A set-up that changes nothing leaves the file as it is, to the letter.
    const before = await readFile(this.poolPath, "utf8").catch(() => "");
    const same = at(/"updatedAt": "([^"]*)"\n\}\n$/.exec(before)?.[1] ?? "");
    if (textOf(same) === before) return same;
    const file = at(new Date().toISOString().replace(/\.\d+Z$/, "Z"));
    await replaceFile(this.poolPath, textOf(file));
    return file;
  }

  async readRegistration(): Promise<RegistrationFile | undefined> {
    return readRecord(this.registrationPath, registrationSchema);
  }

  async writeRegistration(registration: RegistrationFile): Promise<void> {
    await replaceFile(this.registrationPath, `${JSON.stringify(registration, null, 2)}\n`);
  }

  async remove(...paths: readonly string[]): Promise<void> {
    for (const path of paths) await rm(path, { force: true });
    await syncDirectory(this.path);
  }
}

/** Node's own `recursive` never ends where a file system like /proc takes no directories. */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o750 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && (await stat(path)).isDirectory()) return;
    if (code !== "ENOENT" || dirname(path) === path) throw error;
    await makeDirectory(dirname(path));
    await mkdir(path, { mode: 0o750 });
  }
}

/** Reads and checks a JSON file. @returns undefined when it does not exist. @throws {CorruptError} */
export async function readRecord<T>(path: string, schema: RecordSchema<T>): Promise<T | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw new CocoonError("unreadable", `${path} cannot be read: ${describeError(cause)}`, { cause });
  }
  const hint = "nothing was changed; mend the file or move it away";
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CorruptError(`${path} is not valid JSON (${describeError(cause)})`, { cause, hint });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new CorruptError(`${path}: ${issue?.path.join(".") || "value"}: ${issue?.message}`, { hint });
}

function isEmpty(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}
