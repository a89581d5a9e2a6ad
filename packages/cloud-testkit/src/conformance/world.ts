import type { Cloud } from "@cocoon-net/core";
import type { HeldRequest } from "../faults.ts";

/** What the suite needs to know about a cloud. */
export interface CloudUnderTest {
  readonly name: string;
  /** A new account, empty but for what instances need. Several are open at the same time. */
  open(): Promise<CloudWorld>;
  /**
   * A new account that refuses requests beyond a rate, low enough for six nodes at once to exceed it. All clouds of the
   * world share one budget: with `fitting` it has the account's rates, with `generous` ones far beyond. Left out: what
   * happens at a rate limit is not tested.
   */
  openLimited?(budget: "fitting" | "generous"): Promise<LimitedWorld>;
}

/** One simulated account, as it truly is. */
export interface CloudWorld extends AsyncDisposable {
  /** A new running instance. */
  addInstance(): string;
  stopInstance(instanceID: string): void;
  deleteInstance(instanceID: string): void;
  /** The cloud as a program on that instance has it; the world closes it. */
  cloudOn(instanceID: string): Promise<Cloud>;
  /** The n-th block for a node, from 0; they do not overlap. There are at least 200. */
  block(n: number): string;
  /** Addresses of the block that are delivered to somebody, with the instance. */
  delivered(block: string): ReadonlyMap<string, string>;
  /** Ids of all that was made in the block and would be charged or stand in the way, in any order. */
  resources(block: string): readonly string[];
  /**
   * Makes something of somebody else in the block, not attached to anything. Returns its id. Left out where nothing
   * exists at the cloud unattached.
   */
  addForeign?(block: string): string;
  /** Makes an address of the block, none of which is in use, be delivered to the instance, by somebody else's doing. */
  attachForeign(block: string, instanceID: string): void;
  /** Stops at the n-th request from now, from 0, that changes something, as the simulators do. */
  hold(n: number, when: "before" | "after"): HeldRequest;
}

export interface LimitedWorld extends CloudWorld {
  /** Requests that were refused for their rate so far. */
  readonly refused: number;
}
