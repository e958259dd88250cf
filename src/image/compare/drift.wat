;; What the measurement of drift does to every pixel: pictures reduced to luma, the strength of edges, a plane brought to another zoom and shift, and
;; products of a block with its surroundings.
(module
  (import "qedit" "memory" (memory 1))

  ;; Sums of bytes over rows, as words of 16 bits: at most 257 rows of `row` bytes, a multiple of 16.
  (func (export "columnSums") (param $source i32) (param $row i32) (param $rows i32) (param $target i32)
    (local $x i32) (local $from i32) (local $left i32) (local $bytes v128) (local $low v128) (local $high v128)
    (loop $nextBytes
      (local.set $low (v128.const i64x2 0 0))
      (local.set $high (local.get $low))
      (local.set $from (i32.add (local.get $source) (local.get $x)))
      (local.set $left (local.get $rows))
      (loop $nextRow
        (local.set $bytes (v128.load (local.get $from)))
        (local.set $low (i16x8.add (local.get $low) (i16x8.extend_low_i8x16_u (local.get $bytes))))
        (local.set $high (i16x8.add (local.get $high) (i16x8.extend_high_i8x16_u (local.get $bytes))))
        (local.set $from (i32.add (local.get $from) (local.get $row)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $nextRow (local.get $left)))
      (v128.store (local.get $target) (local.get $low))
      (v128.store offset=16 (local.get $target) (local.get $high))
      (local.set $target (i32.add (local.get $target) (i32.const 32)))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $nextBytes (i32.lt_u (local.get $x) (local.get $row)))))

  ;; Adds the luma of a row of pixels, three words of 16 bits each, to a row of `outputs` floats, times a share, and times the rest to the row below.
  ;; Of each output: `ends` has the byte behind the last pixel that is wholly in it, counted from the first of the row, and `shares` how much of the
  ;; next pixel is (a double), 0 where that one lies wholly in the next output.
  (func (export "addLuma")
    (param $words i32) (param $outputs i32) (param $ends i32) (param $shares i32)
    (param $target i32) (param $share f64) (param $below i32) (param $rest f64)
    (local $at i32) (local $end i32) (local $red i32) (local $green i32) (local $blue i32)
    (local $part f64) (local $whole f64) (local $split f64) (local $carried f64)
    (local.set $at (local.get $words))
    (loop $nextOutput
      (local.set $end (i32.add (local.get $words) (i32.load (local.get $ends))))
      (local.set $red (i32.const 0))
      (local.set $green (i32.const 0))
      (local.set $blue (i32.const 0))
      (block $summed
        (loop $nextPixel
          (br_if $summed (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $red (i32.add (local.get $red) (i32.load16_u (local.get $at))))
          (local.set $green (i32.add (local.get $green) (i32.load16_u offset=2 (local.get $at))))
          (local.set $blue (i32.add (local.get $blue) (i32.load16_u offset=4 (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 6)))
          (br $nextPixel)))
      ;; Rec. 709 luma.
      (local.set $whole (f64.add (local.get $carried) (f64.add
        (f64.add
          (f64.mul (f64.const 0.2126) (f64.convert_i32_u (local.get $red)))
          (f64.mul (f64.const 0.7152) (f64.convert_i32_u (local.get $green))))
        (f64.mul (f64.const 0.0722) (f64.convert_i32_u (local.get $blue))))))
      (local.set $carried (f64.const 0))
      (local.set $part (f64.load (local.get $shares)))
      (if (f64.gt (local.get $part) (f64.const 0))
        (then
          (local.set $split (f64.add
            (f64.add
              (f64.mul (f64.const 0.2126) (f64.convert_i32_u (i32.load16_u (local.get $at))))
              (f64.mul (f64.const 0.7152) (f64.convert_i32_u (i32.load16_u offset=2 (local.get $at)))))
            (f64.mul (f64.const 0.0722) (f64.convert_i32_u (i32.load16_u offset=4 (local.get $at))))))
          (local.set $whole (f64.add (local.get $whole) (f64.mul (local.get $part) (local.get $split))))
          (local.set $carried (f64.mul (f64.sub (f64.const 1) (local.get $part)) (local.get $split)))
          (local.set $at (i32.add (local.get $at) (i32.const 6)))))
      (f32.store (local.get $target) (f32.demote_f64 (f64.add
        (f64.promote_f32 (f32.load (local.get $target))) (f64.mul (local.get $whole) (local.get $share)))))
      (f32.store (local.get $below) (f32.demote_f64 (f64.add
        (f64.promote_f32 (f32.load (local.get $below))) (f64.mul (local.get $whole) (local.get $rest)))))
      (local.set $ends (i32.add (local.get $ends) (i32.const 4)))
      (local.set $shares (i32.add (local.get $shares) (i32.const 8)))
      (local.set $target (i32.add (local.get $target) (i32.const 4)))
      (local.set $below (i32.add (local.get $below) (i32.const 4)))
      (local.set $outputs (i32.sub (local.get $outputs) (i32.const 1)))
      (br_if $nextOutput (local.get $outputs))))

  ;; Of floats, four at a time: a quarter of one, of twice the one `step` bytes on, and of the one as far behind that, for so many bytes, a multiple of 16.
  (func (export "blur") (param $source i32) (param $target i32) (param $bytes i32) (param $step i32)
    (local $end i32) (local $middle v128)
    (local.set $end (i32.add (local.get $target) (local.get $bytes)))
    (loop $nextFloats
      (local.set $middle (v128.load (i32.add (local.get $source) (local.get $step))))
      (v128.store (local.get $target) (f32x4.mul (v128.const f32x4 0.25 0.25 0.25 0.25) (f32x4.add
        (f32x4.add (v128.load (local.get $source)) (f32x4.add (local.get $middle) (local.get $middle)))
        (v128.load (i32.add (local.get $source) (i32.shl (local.get $step) (i32.const 1)))))))
      (local.set $source (i32.add (local.get $source) (i32.const 16)))
      (local.set $target (i32.add (local.get $target) (i32.const 16)))
      (br_if $nextFloats (i32.lt_u (local.get $target) (local.get $end)))))

  ;; Of floats, four at a time: the square root of the length of the gradient between their neighbours in rows of `stride` bytes, for so many bytes, a
  ;; multiple of 16.
  (func (export "gradients") (param $source i32) (param $target i32) (param $bytes i32) (param $stride i32)
    (local $end i32) (local $across v128) (local $down v128)
    (local.set $end (i32.add (local.get $target) (local.get $bytes)))
    (loop $nextFloats
      (local.set $across (f32x4.sub
        (v128.load (i32.add (local.get $source) (i32.const 4)))
        (v128.load (i32.sub (local.get $source) (i32.const 4)))))
      (local.set $down (f32x4.sub
        (v128.load (i32.add (local.get $source) (local.get $stride)))
        (v128.load (i32.sub (local.get $source) (local.get $stride)))))
      (v128.store (local.get $target) (f32x4.sqrt (f32x4.sqrt (f32x4.add
        (f32x4.mul (local.get $across) (local.get $across)) (f32x4.mul (local.get $down) (local.get $down))))))
      (local.set $source (i32.add (local.get $source) (i32.const 16)))
      (local.set $target (i32.add (local.get $target) (i32.const 16)))
      (br_if $nextFloats (i32.lt_u (local.get $target) (local.get $end)))))

  ;; Of a plane of floats [height, width] the sums of everything above and left, and of the squares, as doubles: one more each way than the plane, of
  ;; which the first row and the first column are not written.
  (func (export "runningSums") (param $source i32) (param $width i32) (param $height i32) (param $sums i32) (param $squares i32)
    (local $stride i32) (local $end i32) (local $value f64) (local $sum f64) (local $square f64)
    (local.set $stride (i32.shl (i32.add (local.get $width) (i32.const 1)) (i32.const 3)))
    (loop $nextRow
      (local.set $end (i32.add (local.get $source) (i32.shl (local.get $width) (i32.const 2))))
      (local.set $sum (f64.const 0))
      (local.set $square (f64.const 0))
      (loop $nextValue
        (local.set $sums (i32.add (local.get $sums) (i32.const 8)))
        (local.set $squares (i32.add (local.get $squares) (i32.const 8)))
        (local.set $value (f64.promote_f32 (f32.load (local.get $source))))
        (local.set $sum (f64.add (local.get $sum) (local.get $value)))
        (local.set $square (f64.add (local.get $square) (f64.mul (local.get $value) (local.get $value))))
        (f64.store (i32.add (local.get $sums) (local.get $stride)) (f64.add (f64.load (local.get $sums)) (local.get $sum)))
        (f64.store (i32.add (local.get $squares) (local.get $stride)) (f64.add (f64.load (local.get $squares)) (local.get $square)))
        (local.set $source (i32.add (local.get $source) (i32.const 4)))
        (br_if $nextValue (i32.lt_u (local.get $source) (local.get $end))))
      ;; Past the first column of the next row.
      (local.set $sums (i32.add (local.get $sums) (i32.const 8)))
      (local.set $squares (i32.add (local.get $squares) (i32.const 8)))
      (local.set $height (i32.sub (local.get $height) (i32.const 1)))
      (br_if $nextRow (local.get $height))))

  ;; Bilinear, of a plane of floats [height, width] to one of the same size. `columns` and `rows` are taps of three words for each output: how many
  ;; bytes from the beginning of a row, or of the plane, its two inputs lie, and the share of the second, a float.
  (func (export "warp")
    (param $source i32) (param $target i32) (param $width i32) (param $height i32) (param $columns i32) (param $rows i32)
    (local $column i32) (local $end i32) (local $upper i32) (local $lower i32) (local $left i32) (local $right i32)
    (local $share f64) (local $down f64) (local $above f64) (local $below f64)
    (local.set $end (i32.add (local.get $columns) (i32.mul (local.get $width) (i32.const 12))))
    (loop $nextRow
      (local.set $upper (i32.add (local.get $source) (i32.load (local.get $rows))))
      (local.set $lower (i32.add (local.get $source) (i32.load offset=4 (local.get $rows))))
      (local.set $down (f64.promote_f32 (f32.load offset=8 (local.get $rows))))
      (local.set $column (local.get $columns))
      (loop $nextColumn
        (local.set $left (i32.load (local.get $column)))
        (local.set $right (i32.load offset=4 (local.get $column)))
        (local.set $share (f64.promote_f32 (f32.load offset=8 (local.get $column))))
        (local.set $above (f64.promote_f32 (f32.load (i32.add (local.get $upper) (local.get $left)))))
        (local.set $below (f64.promote_f32 (f32.load (i32.add (local.get $lower) (local.get $left)))))
        (local.set $above (f64.add (local.get $above) (f64.mul (local.get $share) (f64.sub
          (f64.promote_f32 (f32.load (i32.add (local.get $upper) (local.get $right)))) (local.get $above)))))
        (local.set $below (f64.add (local.get $below) (f64.mul (local.get $share) (f64.sub
          (f64.promote_f32 (f32.load (i32.add (local.get $lower) (local.get $right)))) (local.get $below)))))
        (f32.store (local.get $target) (f32.demote_f64 (f64.add (local.get $above)
          (f64.mul (f64.sub (local.get $below) (local.get $above)) (local.get $down)))))
        (local.set $target (i32.add (local.get $target) (i32.const 4)))
        (local.set $column (i32.add (local.get $column) (i32.const 12)))
        (br_if $nextColumn (i32.lt_u (local.get $column) (local.get $end))))
      (local.set $rows (i32.add (local.get $rows) (i32.const 12)))
      (local.set $height (i32.sub (local.get $height) (i32.const 1)))
      (br_if $nextRow (local.get $height))))

  ;; Sums over a block of [height, width] floats in rows of `stride` bytes: of the products with a block of another plane with such rows, for `across`
  ;; offsets each way from that block on. Sums are doubles, row by row of offsets, each row in whole eights, of which those beyond `across` say nothing.
  (func (export "products")
    (param $block i32) (param $other i32) (param $stride i32) (param $width i32) (param $height i32) (param $across i32) (param $sums i32)
    (local $down i32) (local $right i32) (local $row i32) (local $at i32) (local $end i32) (local $beside i32)
    (local $value v128) (local $first v128) (local $second v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local.set $down (local.get $across))
    (loop $nextDown
      (local.set $right (i32.const 0))
      (loop $nextRight
        (local.set $a (v128.const i64x2 0 0))
        (local.set $b (local.get $a))
        (local.set $c (local.get $a))
        (local.set $d (local.get $a))
        (local.set $row (i32.const 0))
        (loop $nextRow
          (local.set $at (i32.mul (local.get $row) (local.get $stride)))
          (local.set $beside (i32.add (i32.add (local.get $other) (local.get $at)) (i32.shl (local.get $right) (i32.const 2))))
          (local.set $at (i32.add (local.get $block) (local.get $at)))
          (local.set $end (i32.add (local.get $at) (i32.shl (local.get $width) (i32.const 2))))
          (loop $nextValue
            (local.set $value (f64x2.splat (f64.promote_f32 (f32.load (local.get $at)))))
            (local.set $first (v128.load (local.get $beside)))
            (local.set $second (v128.load offset=16 (local.get $beside)))
            (local.set $a (f64x2.add (local.get $a) (f64x2.mul (local.get $value) (f64x2.promote_low_f32x4 (local.get $first)))))
            (local.set $b (f64x2.add (local.get $b) (f64x2.mul (local.get $value) (f64x2.promote_low_f32x4
              (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $first) (local.get $first))))))
            (local.set $c (f64x2.add (local.get $c) (f64x2.mul (local.get $value) (f64x2.promote_low_f32x4 (local.get $second)))))
            (local.set $d (f64x2.add (local.get $d) (f64x2.mul (local.get $value) (f64x2.promote_low_f32x4
              (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $second) (local.get $second))))))
            (local.set $at (i32.add (local.get $at) (i32.const 4)))
            (local.set $beside (i32.add (local.get $beside) (i32.const 4)))
            (br_if $nextValue (i32.lt_u (local.get $at) (local.get $end))))
          (local.set $row (i32.add (local.get $row) (i32.const 1)))
          (br_if $nextRow (i32.lt_u (local.get $row) (local.get $height))))
        (v128.store (local.get $sums) (local.get $a))
        (v128.store offset=16 (local.get $sums) (local.get $b))
        (v128.store offset=32 (local.get $sums) (local.get $c))
        (v128.store offset=48 (local.get $sums) (local.get $d))
        (local.set $sums (i32.add (local.get $sums) (i32.const 64)))
        (local.set $right (i32.add (local.get $right) (i32.const 8)))
        (br_if $nextRight (i32.lt_u (local.get $right) (local.get $across))))
      (local.set $other (i32.add (local.get $other) (local.get $stride)))
      (local.set $down (i32.sub (local.get $down) (i32.const 1)))
      (br_if $nextDown (local.get $down)))))
