import {
  type Controller,
  type ControllerOptions,
  createController,
  type ReclaimPolicy,
  type SilentNode,
} from "@cocoon-net/controller";

export interface ZoneControllerOptions extends Omit<ControllerOptions, "policy"> {
  /** By zone; what is not named here gets `instance-gone`. */
  readonly zones: Readonly<Record<string, ReclaimPolicy>>;
}

/**
 * cocoon-net's controller with one rule replaced: what a silent node meets depends on its zone. Everything else (two
 * looks, fence, quarantine, the breaker, pause) is as it is everywhere.
 */
export function createZoneController({ zones, ...options }: ZoneControllerOptions): Controller {
  const policy = ({ record }: SilentNode): ReclaimPolicy => zones[record.zone ?? ""] ?? "instance-gone";
  return createController({ ...options, policy });
}
