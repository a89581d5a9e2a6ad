/**
 * What cocoon-net records as a GCE node's `instanceID`: `PROJECT/ZONE/NAME/ID`. It says by itself where to ask, and
 * the numeric id is the identity: a new instance of the same name is another one (G12).
 */
export interface InstanceRef {
  readonly project: string;
  readonly zone: string;
  readonly name: string;
  /** Numeric, but larger than a JavaScript number can hold. */
  readonly id: string;
}

const pattern =
  /^((?:[-a-z0-9.]{1,128}:)?[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\/([a-z]+(?:-[a-z0-9]+)+)\/([a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)\/([1-9]\d{0,19})$/;

/** Undefined for what is no such id. */
export function parseInstanceRef(instanceID: string): InstanceRef | undefined {
  const [, project, zone, name, id] = pattern.exec(instanceID) ?? [];
  if (project === undefined || zone === undefined || name === undefined || id === undefined) return undefined;
  return { project, zone, name, id };
}

export function formatInstanceRef({ project, zone, name, id }: InstanceRef): string {
  return `${project}/${zone}/${name}/${id}`;
}

/** `us-central1-a` → `us-central1` */
export function regionOf(zone: string): string {
  return zone.replace(/-[a-z0-9]+$/, "");
}
