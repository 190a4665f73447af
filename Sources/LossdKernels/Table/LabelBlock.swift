/// Class indices as clients send them, to be checked and made labels for the kernels.
public struct LabelBlock {
  public enum Kind { case int64, int32, uint8 }

  public var targets: UnsafeRawPointer
  public var kind: Kind
  public var count: Int
  /// The target that does not count.
  public var ignored: Int64
  /// At most 2^31 - 1.
  public var classes: Int
  /// The class of each target, -1 for an ignored one; garbage where one is out of range.
  public var labels: UnsafeMutablePointer<Int32>

  public init(
    targets: UnsafeRawPointer, kind: Kind, count: Int, ignored: Int64, classes: Int,
    labels: UnsafeMutablePointer<Int32>
  ) {
    self.targets = targets
    self.kind = kind
    self.count = count
    self.ignored = ignored
    self.classes = classes
    self.labels = labels
  }
}
