import { fabricAddress } from "../namespaces/fabric.ts";
import { command, ip } from "../namespaces/ip-command.ts";
import type { SupervisedProcess } from "./supervised-process.ts";

/** A service in a namespace of its own, with its clock, and its cable to the VPC. */
export interface Machine {
  readonly name: string;
  readonly namespace: string;
  readonly address: string;
  /** The VPC's end of its cable. */
  readonly port: string;
  readonly clockPath: string;
  readonly process: SupervisedProcess;
}

export interface ChaosNode extends Machine {
  readonly instanceID: string;
  readonly directory: string;
  /** Those that are on it now. */
  readonly guests: ChaosGuest[];
}

export interface ChaosGuest {
  readonly name: string;
  /** Its node's end of its cable. */
  readonly tap: string;
  readonly namespace: string;
  readonly logPath: string;
  mac: string;
  client: SupervisedProcess | undefined;
}

/** Nothing from or to the store's port; the cable out; or that part of all packets lost. */
export type Cut = { readonly store: number } | "cable" | { readonly lost: number };

/** Makes it so, or undoes it. In the fabric's namespace. */
export async function setCut(machine: Machine, cut: Cut, isCut: boolean): Promise<void> {
  const { namespace, address, port } = machine;
  if (cut === "cable") return void (await ip("link", "set", port, isCut ? "down" : "up"));
  const rule = ["iptables", "-w", isCut ? "-I" : "-D"];
  const inside = ["netns", "exec", namespace, ...rule];
  if ("store" in cut) {
    const store = String(cut.store);
    await ip(...inside, "INPUT", "-s", fabricAddress, "-p", "tcp", "--sport", store, "-j", "DROP");
    await ip(...inside, "OUTPUT", "-d", fabricAddress, "-p", "tcp", "--dport", store, "-j", "DROP");
    return;
  }
  const probability = ["-m", "statistic", "--mode", "random", "--probability", cut.lost.toFixed(2)];
  // What it hears, from its guests too, and what it says, at the other end: at its own, sending would fail instead.
  await ip(...inside, "INPUT", "!", "-i", "lo", ...probability, "-j", "DROP");
  await command("iptables", [...rule.slice(1), "INPUT", "-s", address, ...probability, "-j", "DROP"]);
}
