import { basename } from "node:path";
import {
  CocoonError,
  type CopyProgress,
  CopyTarget,
  checkRecords,
  copyCluster,
  counted,
  isCopied,
  keys,
  placeOf,
  readWhole,
} from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import { openStore } from "../drivers.ts";
import { readArchive, writeArchive } from "../store-archive.ts";

export interface StoreCopyFlags {
  readonly from: string;
  readonly to: string;
  readonly verify: boolean;
  readonly live: boolean;
}

export interface StoreFileFlags {
  readonly store: string;
  readonly file: string;
}

export async function storeCopy(flags: StoreCopyFlags, context: CommandContext): Promise<void> {
  const { signal } = context;
  await using source = await openStore(flags.from, context);
  await using target = await openStore(flags.to, context);
  if (!target.capabilities.trustworthy) {
    context.say(`warning: ${target.label} may lose acknowledged writes: ${target.capabilities.durability}`);
  }
  const result = await copyCluster(source, target, {
    signal,
    live: flags.live,
    verify: flags.verify,
    onProgress: progressLines((line) => context.say(line)),
  });
  if (result.overtaken > 0) {
    context.say(
      `${counted(result.overtaken, "record")} came to ${source.label} after it was left; agents write that anew`,
    );
  }
  context.print(
    `cluster ${result.clusterUID} is in ${target.label} now: ${counted(result.written, "record")} written, ${result.removed} removed${
      flags.verify ? ", verified" : ""
    }`,
  );
  context.print(`${source.label} gives nothing out any more: point agents and controllers to the new store`);
}

export async function storeExport(flags: StoreFileFlags, context: CommandContext): Promise<void> {
  await using store = await openStore(flags.store, context);
  const { entries, revision } = await readWhole(store, context.signal);
  const config = entries.find((entry) => entry.key === keys.config);
  const place = config && placeOf(config);
  if (!place || place.state === "incoming") {
    throw new CocoonError("not-found", `there is no cluster in ${store.label} to export`, {
      hint: place ? "it is being filled by a copy; finish that first" : "check the URL and its prefix",
    });
  }
  if (place.state === "moved") {
    context.say(`warning: the cluster has moved to ${place.transfer?.store}; this is what it was before`);
  }
  const kept = entries.filter(({ key }) => isCopied(key) || key === keys.config || key.startsWith("epochs/"));
  const { clusterUID } = place;
  await writeArchive(
    flags.file,
    { clusterUID, store: store.label, revision, time: new Date().toISOString() },
    kept,
  );
  context.print(
    `${flags.file}: ${counted(kept.length, "record")} of cluster ${clusterUID} at revision ${revision}`,
  );
}

export async function storeImport(flags: StoreFileFlags, context: CommandContext): Promise<void> {
  const { signal } = context;
  const archive = await readArchive(flags.file);
  const { clusterUID, store: exportedFrom, time } = archive.header;
  await using store = await openStore(flags.store, context);
  const origin = { label: `${basename(flags.file)} (${exportedFrom}, ${time})`, config: archive.config };
  const target = await CopyTarget.open(store, origin, { signal });
  const report = progressLines((line) => context.say(line));
  const { written, removed } = await target.reconcile(archive.entries, (done, total) =>
    report({ stage: "copying", done, total }),
  );
  await target.commission();
  context.print(
    `cluster ${clusterUID} is in ${store.label} now, as it was at ${time}: ${counted(written, "record")} written, ${removed} removed`,
  );
  context.say(
    `what happened after ${time} is not in it: start the agents now; while the store recovers they say again what they own`,
  );
}

export async function storeCheck(flags: { readonly store: string }, context: CommandContext): Promise<void> {
  await using store = await openStore(flags.store, context);
  const { entries } = await readWhole(store, context.signal);
  const { records, findings, unknown } = checkRecords(entries);
  for (const { key, reason } of findings) context.print(`${key}: ${reason}`);
  if (unknown.length > 0) {
    context.say(
      `${counted(unknown.length, "key")} of a kind that this version does not know: ${shortList(unknown)}`,
    );
  }
  if (findings.length > 0) {
    throw new CocoonError(
      "findings",
      `${counted(findings.length, "finding")} in ${counted(records, "record")} of ${store.label}`,
    );
  }
  context.print(`${counted(records, "record")} of ${store.label}: all in order`);
}

function shortList(items: readonly string[]): string {
  return `${items.slice(0, 5).join(", ")}${items.length > 5 ? ", …" : ""}`;
}

/** One line a second, and one at the end of a stage. */
function progressLines(say: (line: string) => void): (progress: CopyProgress) => void {
  let stage = "";
  let begun = 0;
  let said = 0;
  return (progress) => {
    const now = performance.now();
    if (progress.stage !== stage) {
      stage = progress.stage;
      begun = now;
      said = now;
      if (progress.stage === "verifying") return say(`verifying ${counted(progress.done, "record")}`);
    }
    const finished = progress.done === progress.total;
    if (!finished && now - said < 1_000) return;
    said = now;
    const perSecond = Math.round(progress.done / Math.max((now - begun) / 1_000, 0.001));
    const of =
      progress.total === undefined ? " changes made meanwhile" : ` of ${counted(progress.total, "record")}`;
    say(`${progress.stage}: ${progress.done}${of}${now - begun > 1_000 ? `, ${perSecond}/s` : ""}`);
  };
}
