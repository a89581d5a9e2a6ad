import { CocoonError, describeError } from "@cocoon-net/core";
import { Command } from "commander";
import { gceCommand } from "./command/gce.ts";
import { volcengineCommand } from "./command/volcengine.ts";

const program = new Command("cocoon-cloud-sim")
  .description("Simulated cloud APIs for cocoon-net")
  .addCommand(volcengineCommand())
  .addCommand(gceCommand());

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CocoonError)) throw error;
  process.stderr.write(`cocoon-cloud-sim: ${describeError(error)}\n`);
  process.exitCode = 1;
}
