// LossdKernels: the vector kernels that fit this processor. Depends on the builds of one source.
import CLinux
import Glibc
import LossdKernelTable
import LossdKernelsBaselineBFloat
import LossdKernelsBaselineDouble
import LossdKernelsBaselineFloat
import LossdKernelsBaselineHalf

#if arch(x86_64) && !LOSSD_WITHOUT_AVX2
  import LossdKernelsAVX2BFloat
  import LossdKernelsAVX2Double
  import LossdKernelsAVX2Float
  import LossdKernelsAVX2Half
#endif
#if arch(x86_64) && !LOSSD_WITHOUT_AVX512
  import LossdKernelsAVX512BFloat
  import LossdKernelsAVX512Double
  import LossdKernelsAVX512Float
  import LossdKernelsAVX512Half
#endif

public enum Kernels {
  /// The best build for this processor, or the one that LOSSD_KERNELS names, `avx512`, `avx2` or
  /// `baseline`, where the processor has it; nil with `reference`: the scalar code that the kernels
  /// are tested against. Chosen once.
  public static let chosen: KernelBuild? = choose()

  public static let baseline = KernelBuild(
    name: "baseline", float32: LossdKernelsBaselineFloat.makeKernelTable(),
    float64: LossdKernelsBaselineDouble.makeKernelTable(),
    float16: LossdKernelsBaselineHalf.makeKernelTable(),
    bfloat16: LossdKernelsBaselineBFloat.makeKernelTable())

  /// nil where the processor has no AVX2 with FMA and F16C.
  public static let avx2: KernelBuild? = {
    #if arch(x86_64) && !LOSSD_WITHOUT_AVX2
      guard clinux_has_avx2() != 0 else { return nil }
      return KernelBuild(
        name: "avx2", float32: LossdKernelsAVX2Float.makeKernelTable(),
        float64: LossdKernelsAVX2Double.makeKernelTable(),
        float16: LossdKernelsAVX2Half.makeKernelTable(),
        bfloat16: LossdKernelsAVX2BFloat.makeKernelTable())
    #else
      return nil
    #endif
  }()

  /// nil where the processor has no AVX-512 (F, BW, DQ, VL).
  public static let avx512: KernelBuild? = {
    #if arch(x86_64) && !LOSSD_WITHOUT_AVX512
      guard clinux_has_avx512() != 0 else { return nil }
      return KernelBuild(
        name: "avx512", float32: LossdKernelsAVX512Float.makeKernelTable(),
        float64: LossdKernelsAVX512Double.makeKernelTable(),
        float16: LossdKernelsAVX512Half.makeKernelTable(),
        bfloat16: LossdKernelsAVX512BFloat.makeKernelTable())
    #else
      return nil
    #endif
  }()

  /// Whether this processor writes several large results at once faster past the cache than through it. Intel's do
  /// (Sapphire Rapids: softmax with gradient of 4096 x 1000 float32 1.2 times, relu 2.1 times); on AMD's (Zen) they keep
  /// each other's lines from being written whole, and what is read meanwhile waits for them where it lies at the same
  /// place of another page: up to four times as long.
  public static let streamsTogether = clinux_is_intel() != 0

  /// All that this processor can run.
  public static var all: [KernelBuild] { [baseline, avx2, avx512].compactMap { $0 } }

  /// For people: what is in use.
  public static var name: String { chosen?.name ?? "reference" }

  private static func choose() -> KernelBuild? {
    let asked = getenv("LOSSD_KERNELS").map { String(cString: $0) }
    switch asked {
    case "reference": return nil
    case "baseline": return baseline
    case "avx2": return avx2 ?? baseline
    default: return avx512 ?? avx2 ?? baseline
    }
  }
}
