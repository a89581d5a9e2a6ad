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
    const { env = process.env, ...rest } = options;
    return new VolcengineCloud(env, rest);
  },
  async detect(options: CloudCallOptions = {}): Promise<boolean> {
    return await new Metadata(metadataEndpoint(process.env), defaultTiming).answers(options.signal);
  },
};

export default driver;
