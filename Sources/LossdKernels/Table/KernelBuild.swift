/// The kernels of one instruction set.
public struct KernelBuild: Sendable {
  /// For people: `baseline`, `avx2`, `avx512`.
  public let name: String
  public let float32: KernelTable
  public let float64: KernelTable
  public let float16: KernelTable
  public let bfloat16: KernelTable

  public init(
    name: String, float32: KernelTable, float64: KernelTable, float16: KernelTable,
    bfloat16: KernelTable
  ) {
    self.name = name
    self.float32 = float32
    self.float64 = float64
    self.float16 = float16
    self.bfloat16 = bfloat16
  }
}
