import type { CloudCallOptions, CloudDriver, OpenCloudOptions } from "@cocoon-net/core";
import { InvalidError } from "@cocoon-net/core";
import { Metadata } from "./metadata.ts";
import { metadataEndpoint } from "./settings.ts";
import { defaultTiming } from "./timing.ts";
import { VolcengineCloud } from "./volcengine-cloud.ts";

const driver: CloudDriver = {
  platforms: ["volcengine"],
  open(platform: string, options: OpenCloudOptions = {}): VolcengineCloud {
    if (platform !== "volcengine") throw new InvalidError(`this driver knows volcengine, not "${platform}"`);
    return new VolcengineCloud(options.env ?? process.env);
  },
  async detect(options: CloudCallOptions = {}): Promise<boolean> {
    return await new Metadata(metadataEndpoint(process.env), defaultTiming).answers(options.signal);
  },
};

export default driver;
