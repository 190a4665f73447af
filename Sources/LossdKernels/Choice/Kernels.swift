// LossdKernels: the vector kernels that fit this processor. Depends on the builds of one source.
import CLinux
import Glibc
import LossdKernelTable
import LossdKernelsBaseline

#if arch(x86_64)
  import LossdKernelsAVX2
  import LossdKernelsAVX512
#endif

public enum Kernels {
  /// The best build for this processor, or the one that LOSSD_KERNELS names: `avx512`, `avx2`, `baseline`; nil
  /// with `reference`: the scalar code that the kernels are tested against. Chosen once.
  public static let chosen: KernelTable? = choose()

  public static let baseline = LossdKernelsBaseline.makeKernelTable()

  /// nil where the processor has no AVX2 with FMA.
  public static let avx2: KernelTable? = {
    #if arch(x86_64)
      return clinux_has_avx2() != 0 ? LossdKernelsAVX2.makeKernelTable() : nil
    #else
      return nil
    #endif
  }()

  /// nil where the processor has no AVX-512.
  public static let avx512: KernelTable? = {
    #if arch(x86_64)
      return clinux_has_avx512() != 0 ? LossdKernelsAVX512.makeKernelTable() : nil
    #else
      return nil
    #endif
  }()

  /// For people: what is in use.
  public static var name: String { chosen?.name ?? "reference" }

  private static func choose() -> KernelTable? {
    let asked = getenv("LOSSD_KERNELS").map { String(cString: $0) }
    switch asked {
    case "reference": return nil
    case "baseline": return baseline
    case "avx2": return avx2 ?? baseline
    default: return avx512 ?? avx2 ?? baseline
    }
  }
}
