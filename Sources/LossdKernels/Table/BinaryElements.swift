/// Elements of a binary loss; the kernel returns the sum of the losses, NaN where a probability or its
/// target is outside [0, 1].
public struct BinaryElements {
  public var x: UnsafeRawPointer
  public var target: UnsafeRawPointer
  /// Like x each; nil: ones. `posWeight` with logits alone.
  public var weight: UnsafeRawPointer?
  public var posWeight: UnsafeRawPointer?
  /// Like x each; nil: not wanted.
  public var losses: UnsafeMutableRawPointer?
  public var gradient: UnsafeMutableRawPointer?
  /// An upstream gradient each; nil: `scale` alone.
  public var upstream: UnsafeRawPointer?
  /// What every gradient is multiplied by.
  public var scale: Double
  public var count: Int
  /// Whether losses and gradient are written past the cache.
  public var isStreamed: Bool

  public init(
    x: UnsafeRawPointer, target: UnsafeRawPointer, weight: UnsafeRawPointer? = nil,
    posWeight: UnsafeRawPointer? = nil, losses: UnsafeMutableRawPointer? = nil,
    gradient: UnsafeMutableRawPointer? = nil, upstream: UnsafeRawPointer? = nil,
    scale: Double = 1, count: Int, isStreamed: Bool = false
  ) {
    self.x = x
    self.target = target
    self.weight = weight
    self.posWeight = posWeight
    self.losses = losses
    self.gradient = gradient
    self.upstream = upstream
    self.scale = scale
    self.count = count
    self.isStreamed = isStreamed
  }
}
