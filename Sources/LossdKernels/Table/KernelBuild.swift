/// The kernels of one instruction set.
public struct KernelBuild: Sendable {
  /// For people: `baseline`, `avx2`, `avx512`.
  public let name: String
  public let float32: KernelTable
  public let float64: KernelTable
  public let conversions: Conversions

  public init(
    name: String, float32: KernelTable, float64: KernelTable, conversions: Conversions
  ) {
    self.name = name
    self.float32 = float32
    self.float64 = float64
    self.conversions = conversions
  }

  /// float16 and bfloat16 to and from float32: exact one way, to nearest with ties to even the other.
  public struct Conversions: Sendable {
    /// From, to, count.
    public typealias Conversion =
      @convention(c) (UnsafeRawPointer, UnsafeMutableRawPointer, Int) -> Void

    public let widenHalf: Conversion
    public let narrowHalf: Conversion
    public let widenBFloat: Conversion
    public let narrowBFloat: Conversion

    public init(
      widenHalf: @escaping Conversion, narrowHalf: @escaping Conversion,
      widenBFloat: @escaping Conversion, narrowBFloat: @escaping Conversion
    ) {
      self.widenHalf = widenHalf
      self.narrowHalf = narrowHalf
      self.widenBFloat = widenBFloat
      self.narrowBFloat = narrowBFloat
    }
  }
}
