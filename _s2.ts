import { openAppliance } from "./src/appliance.ts";
import { PastBrowser } from "./src/browse/past_browser.ts";
await Deno.remove("/tmp/scratch/data",{recursive:true}).catch(()=>{});
await Deno.copyFile("/tmp/scratch/img","/tmp/scratch/img2");
const a = await openAppliance({dataPath:"/tmp/scratch/data", baselineBytesPerSecond: 1e12});
await a.createVolume({name:"v",primary:{path:"/tmp/scratch/img2",adopt:true}},{name:"x"});
while(!a.getVolume("v").baseline.complete) await new Promise(r=>setTimeout(r,50));
const m = await a.resolve("v","now"); const place = await a.locatePast("v",m.seq);
const b = new PastBrowser();
const o=b.open(place,m.seq); const d=await o.disk(); const fs=d.partitions[0]!.fileSystem!;
const many=(await fs.lookup(fs.root,new TextEncoder().encode("many")))!;
const l=await fs.list(many.inode);
let sync=0, t=performance.now();
for (let i=0;i<2000;i++){ const x=fs.xattrs(l.at(i).inode); if(!(x instanceof Promise)) sync++; await x; }
console.log("sync",sync,"ms",(performance.now()-t).toFixed(1));
t=performance.now(); const dev=o.device; const buf=new Uint8Array(4096);
for(let i=0;i<20000;i++) dev.read(Math.floor(Math.random()*50000)*4096,buf);
console.log("4k read us",((performance.now()-t)/20).toFixed(1));
o.close(); await b.close(); await a.close();
